"""`distill eval`: a benchmark fetched, answered, judged and shown, in FastChat's files."""

import typer

from distill.cli_eval_ask import answer, fetch
from distill.cli_eval_judge import judge
from distill.cli_eval_show import agree, compare, rate, show

eval_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Questions answered, judged and shown; reads and writes the files of FastChat's llm_judge.",
)

for _verb in (fetch, answer, judge, show, compare, rate, agree):
    eval_app.command()(_verb)
