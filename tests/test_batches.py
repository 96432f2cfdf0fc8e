"""Text: from ids to batches. Contiguous streams, and targets that are the next character."""

import numpy as np
import pytest
from conftest import script

SHAPES = [(1000, 4, 5), (1000, 7, 3), (999, 1, 50), (26, 4, 5), (25, 4, 5), (5000, 100, 49)]


def epoch_of(ids, batch_size, training_seq_len, offset):
    num_batches = script.batches_per_epoch(len(ids), batch_size, training_seq_len)
    return [
        script.read_batch(ids, batch_size, training_seq_len, offset, number)
        for number in range(num_batches)
    ]


@pytest.mark.parametrize('num_ids, batch_size, training_seq_len', SHAPES)
def test_each_row_of_an_epoch_is_one_contiguous_piece_of_the_text(
    num_ids, batch_size, training_seq_len
):
    ids = np.arange(num_ids)  # each character is its own position
    for offset in (0, 1, training_seq_len - 1):
        epoch = epoch_of(ids, batch_size, training_seq_len, offset)
        assert epoch
        rows = np.concatenate([x for x, _ in epoch], axis=1)
        assert rows.shape == (batch_size, len(epoch) * training_seq_len)
        assert (np.diff(rows, axis=1) == 1).all()
        assert rows[0, 0] == offset
        assert (rows.ravel() == np.arange(offset, offset + rows.size)).all()


@pytest.mark.parametrize('num_ids, batch_size, training_seq_len', SHAPES)
def test_every_target_is_the_next_character_of_the_text_across_row_ends_too(
    num_ids, batch_size, training_seq_len
):
    ids = np.random.RandomState(0).randint(40, size=num_ids)
    offset = training_seq_len - 1
    length = len(epoch_of(ids, batch_size, training_seq_len, offset)) * training_seq_len
    for number, (x, y) in enumerate(epoch_of(ids, batch_size, training_seq_len, offset)):
        for row in range(batch_size):
            for column in range(training_seq_len):
                position = offset + row * length + number * training_seq_len + column
                assert x[row, column] == ids[position]
                assert y[row, column] == ids[position + 1]


def test_almost_the_whole_text_is_read_in_an_epoch():
    num_ids = 4_535_554
    num_batches = script.batches_per_epoch(num_ids, 100, 50)
    assert num_ids - 100 * 50 - 50 < num_batches * 100 * 50 < num_ids


def test_one_character_too_few_is_no_batch():
    assert script.batches_per_epoch(25, 4, 5) == 1
    assert script.batches_per_epoch(24, 4, 5) == 0


def test_streams_are_shifted_from_epoch_to_epoch_and_alike_for_a_seed():
    offsets = [script.stream_offset(1, epoch, 50) for epoch in range(1, 11)]
    assert len(set(offsets)) > 5
    assert all(0 <= offset < 50 for offset in offsets)
    assert offsets == [script.stream_offset(1, epoch, 50) for epoch in range(1, 11)]
    assert offsets != [script.stream_offset(2, epoch, 50) for epoch in range(1, 11)]
