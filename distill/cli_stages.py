"""The verbs that run one stage and take no options but those of every such verb; each with its help."""

STAGE_VERBS = {
    "prepare": "Turn the recipe's data section into prompts and conversations.",
    "reward": "Fit a reward model and its energy head on preference pairs, and measure both.",
    "safer_instruct": "Turn unsafe texts into preference pairs.",
    "f_dpg": "Move the student toward a target distribution along each divergence, and measure it.",
    "harmlessness": "Count harmful answers and refusals of the student before and after training.",
    "report": "Write report.html and report.json.",
}
ANSWERING_VERBS = {
    "pairs": "Sample one teacher and one student answer for each prompt.",
    "evaluate": "Measure accuracy, preference rate, divergence and speed.",
    "linear_alignment": "Measure answers steered by a principle, at each ratio.",
}
"""Those whose answers a principle may steer."""
