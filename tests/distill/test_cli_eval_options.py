from distill.cli_eval_options import listed


def test_names_are_listed_by_comma_or_by_option():
    assert listed(["a,b", " c "]) == ("a", "b", "c")
    assert listed(None) == ()
