"""From ids to batches: contiguous streams, and targets that are the next characters."""

import numpy as np
import pytest
from conftest import script

SHAPES = [(1000, 4, 5), (1000, 7, 3), (999, 1, 50), (26, 4, 5), (25, 4, 5), (5000, 100, 49)]


@pytest.mark.parametrize('num_ids, batch_size, training_seq_len', SHAPES)
def test_batches_read_the_text_in_order_and_targets_come_one_later(
    num_ids, batch_size, training_seq_len
):
    ids = np.arange(num_ids)  # each id is its own position
    num_batches = script.batches_per_epoch(num_ids, batch_size, training_seq_len)
    for offset in range(training_seq_len):
        batches = [
            script.read_batch(ids, batch_size, training_seq_len, offset, number)
            for number in range(num_batches)
        ]
        x, y = (np.concatenate(part, axis=1) for part in zip(*batches))
        assert x.shape == (batch_size, num_batches * training_seq_len)
        np.testing.assert_array_equal(x.ravel(), offset + np.arange(x.size))
        np.testing.assert_array_equal(y, x + 1)


def test_an_epoch_reads_almost_the_whole_text_and_a_short_text_has_no_batch():
    num_ids = 4_535_554
    num_batches = script.batches_per_epoch(num_ids, 100, 50)
    assert num_ids - 100 * 50 - 50 < num_batches * 100 * 50 < num_ids
    assert script.batches_per_epoch(25, 4, 5) == 1
    assert script.batches_per_epoch(24, 4, 5) == 0


def test_stream_offsets_vary_by_epoch_and_are_reproducible():
    offsets = [script.stream_offset(1, epoch, 50) for epoch in range(1, 11)]
    assert len(set(offsets)) > 5
    assert all(0 <= offset < 50 for offset in offsets)
    assert offsets == [script.stream_offset(1, epoch, 50) for epoch in range(1, 11)]
    assert offsets != [script.stream_offset(2, epoch, 50) for epoch in range(1, 11)]
