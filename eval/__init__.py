"""Measurements of what `distill` makes: answers judged without a language model, divergence, speed, the report.

checkers          is an answer right?
accuracy          share of right answers, with intervals that resample whole conversations
preference_rate   the student against its teacher, and one student against another, question by question
divergence        KL to the teacher and perplexity over held-out answers
throughput        generation speed of a model
mt_bench          questions and answers in FastChat's files
scores            intervals and tests
intervals         the studentised clustered interval; `paired`, `win_rate`, `detectable` stand on it
bradley_terry     strengths of many models; `length_control` at equal lengths; both fitted by `logit`
reliability       agreement of raters, and the variance of asking a judge again
judged_pairs      verdicts in both orders; `bias`, `families`, `canaries`: what moves a judge besides quality
leakage           was an evaluation prompt trained on?
results           the result table
samples, plots, report   the report of a run: one HTML page and its JSON twin; `page` is what all pages share
mt_bench.board    the scoreboard of a judged benchmark, its tables, and its page with the judgment browser
metrics           modules of the `evaluate` library, loaded from their local paths
lm_eval_bridge    tasks of lm-evaluation-harness on local data
speed             benchmarks: `python -m eval.speed.NAME`
"""

__all__: list[str] = []
