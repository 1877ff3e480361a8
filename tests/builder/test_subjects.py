from builder.subjects import TOY_SUBJECTS, index_subjects


def test_toys_are_indexed_without_drawing_them_and_drawn_when_read():
    index = index_subjects("toy:held-out", 32)
    assert len(index) == TOY_SUBJECTS["held-out"] == len({subject.content_hash for subject in index})
    assert index[3].read()[:4] == b"\x89PNG"
    assert index[3].read() == index[3].read()


def test_splits_and_sizes_are_other_subjects():
    digests = {index_subjects(*asked).digest for asked in [("toy:held-out", 32), ("toy:train", 32), ("toy:train", 64)]}
    assert len(digests) == 3
    assert index_subjects("toy:train", 32).digest in digests
