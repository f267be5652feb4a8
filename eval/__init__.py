"""Measurements of what `distill` makes: answers judged without a language model, divergence, speed, the report.

checkers          is an answer right?
accuracy          share of right answers, with intervals that resample whole conversations
preference_rate   the student against its teacher, and one student against another, question by question
divergence        KL to the teacher and perplexity over held-out answers
throughput        generation speed of a model
mt_bench          questions and answers in FastChat's files
scores            intervals and tests
results           the result table
samples, plots, report   the report of a run: one HTML page and its JSON twin
metrics           a module of the `evaluate` library, loaded from its local path
speed             benchmarks: `python -m eval.speed.NAME`
"""

__all__: list[str] = []
