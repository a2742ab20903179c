"""Contamination: the share of a fold's scored images that its initial weights were trained on."""

import numpy as np

from glaucoma.dataset.splits import Split, contamination


def split(images: str, patients: tuple[str, ...] = ()) -> Split:
    return Split(tuple(images), np.arange(len(images)), np.zeros(len(images), bool), patients)


def test_images_near_duplicates_and_patients_are_each_counted_once():
    seen = split("abc", ("ann", "bob", ""))
    scored = split("adefgh", ("ann", "bob", "eve", "ann", "", ""))
    clusters = {"b": "1", "d": "1", "g": "2", "h": "2"}
    # a was seen; d is a near duplicate of b (also bob's); f is ann's; e's patient was not seen; g, h have no patient
    assert contamination(scored, seen, clusters) == {
        "contamination": 1 / 6,
        "contaminated_images": 1,
        "contaminated_duplicates": 1,
        "contaminated_patients": 1,
    }


def test_without_clusters_or_patients_their_counts_are_absent_and_not_zero():
    found = contamination(split("ab"), split("bc"))
    assert found["contamination"] == 0.5
    assert found["contaminated_duplicates"] is None
    assert found["contaminated_patients"] is None


def test_weights_that_saw_no_label_contaminate_nothing():
    found = contamination(split("ab", ("ann", "")), None, {})
    assert set(found.values()) == {0}
