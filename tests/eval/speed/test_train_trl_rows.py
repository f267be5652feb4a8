from dataclasses import replace

from eval.speed.train_trl_rows import dataset, dpo_rows, gkd_rows, on_disk, text_of, word_tokenizer
from eval.speed.train_work import PAD_ID, WORKS

WORK = replace(WORKS["tiny"], num_pairs=2)


def test_a_text_is_the_ids_it_is_made_of():
    tokenizer = word_tokenizer(WORK.student.vocab_size)
    assert len(tokenizer) == WORK.student.vocab_size
    for pair, row in zip(WORK.pairs(), dpo_rows(WORK.pairs()), strict=True):
        ids = tokenizer(row["prompt"] + row["chosen"])["input_ids"]
        assert ids == [*pair.chosen.prompt_ids, *pair.chosen.completion_ids]
    assert tokenizer.pad_token_id == PAD_ID
    assert text_of((0, 2, 7)) == "<pad> </s> w7"


def test_answers_stand_one_a_row_with_what_counts_marked():
    row = gkd_rows(WORK.pairs())[1]
    rejected = WORK.pairs()[0].rejected
    assert row["input_ids"] == [*rejected.prompt_ids, *rejected.completion_ids]
    assert row["completion_mask"] == [0] * len(rejected.prompt_ids) + [1] * len(rejected.completion_ids)


def test_a_data_set_on_disk_holds_the_rows_and_stays_one(tmp_path):
    rows = dpo_rows(WORK.pairs())
    found = on_disk(rows, tmp_path)
    assert found.to_list() == rows
    assert found.cache_files
    assert dataset(found) is found
    assert dataset(rows).to_list() == rows
