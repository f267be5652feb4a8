from eval.objective_figures import ObjectiveFigures, ObjectiveRow, RateTrial
from eval.scores import Interval

HALF = Interval(0.5, 0.4, 0.6)


def test_a_trained_row_tells_all_and_a_start_what_it_has():
    trained = ObjectiveRow(
        name="dpo",
        learns_from="pairs",
        learning_rate=5e-5,
        accuracy=HALF,
        difference=Interval(-0.01, -0.03, 0.02),
        kl_to_teacher_nats=0.25,
        kl_standard_error_nats=0.0125,
        train_s=41.4,
    )
    assert trained.cells() == (
        "dpo",
        "pairs",
        "5e-05",
        "50.0 % [40.0, 60.0]",
        "−1.0 [−3.0, +2.0]",
        "0.2500 ± 0.0125",
        "41",
    )
    assert ObjectiveRow(name="teacher", accuracy=HALF).cells() == (
        "teacher",
        "–",
        "–",
        "50.0 % [40.0, 60.0]",
        "–",
        "–",
        "–",
    )


def test_the_chosen_rate_stands_out_among_those_tried():
    def trial(rate: float, accuracy: float, *, family: str = "preference") -> RateTrial:
        is_chosen = accuracy > 0.3
        return RateTrial(
            family=family,
            name="dadpo",
            learning_rate=rate,
            accuracy=accuracy,
            kl_to_teacher_nats=1.0,
            is_chosen=is_chosen,
        )

    figures = ObjectiveFigures(
        described="100 steps",
        rows=(ObjectiveRow(name="teacher", accuracy=HALF),),
        trials=(trial(1e-5, 0.3), trial(5e-5, 0.4), trial(0.5, 0.31, family="other")),
    )
    text = figures.to_markdown()
    assert text.startswith("100 steps:\n\n| objective |")
    assert "preference (by dadpo) 1e-05 30.0 %, **5e-05** 40.0 %; other (by dadpo) **0.5** 31.0 %." in text
    assert "Learning rates" not in figures.model_copy(update={"trials": ()}).to_markdown()
