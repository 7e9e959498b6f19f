"""Batches depend on (seed, epoch, number) alone, whoever makes them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mess_tf.core.errors import MessError, UsageError
from mess_tf.core.supernet_spec import Preprocessing
from mess_tf.data.assemble import BatchMaker
from mess_tf.data.augment import Augmentation, evaluation_image
from mess_tf.data.cache import Cached
from mess_tf.data.drawn import DrawnSource
from mess_tf.data.folder import open_folder
from mess_tf.data.prefetch import Batch, Prefetcher
from mess_tf.data.sources import Sample

AUGMENTATION = Augmentation(multiple=16, jitter=0.2)


def maker(**changes: Any) -> BatchMaker:
    options: dict[str, Any] = {
        "source": DrawnSource("train", count=22, size=(40, 56), seed=0),
        "indices": range(2, 22),
        "batch": 6,
        "height": 48,
        "width": 64,
        "preprocessing": Preprocessing(),
        "augmentation": AUGMENTATION,
        "label_stride": 4,
        "seed": 5,
    }
    return BatchMaker(**{**options, **changes})


def prefetch(
    maker: BatchMaker, workers: int = 1, ahead: int = 4, **epoch: int
) -> Iterator[Batch]:
    """Batches of one epoch; leaving the loop early closes the pool."""
    with Prefetcher(maker, workers, ahead) as pool:
        yield from pool.epoch(**{"epoch": 0, **epoch})


def equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_training_batches_have_the_promised_form() -> None:
    images, labels = maker().make(0, 0)
    assert images.shape == (6, 48, 64, 3) and images.dtype == np.float32
    assert labels.shape == (6, 12, 16) and labels.dtype == np.int32
    assert -1 <= images.min() and images.max() <= 1 + 1e-6 and images.std() > 0.1
    assert set(np.unique(labels)) <= {0, 1, 2, 3, 4, 5, 255}


def test_an_epoch_visits_every_sample_at_most_once_in_an_order_of_its_own() -> None:
    training = maker()
    assert len(training) == 3
    epochs = [[training.samples(e, n) for n in range(3)] for e in range(2)]
    for epoch in epochs:
        seen = [i for batch in epoch for i in batch]
        assert len(seen) == len(set(seen)) == 18 and set(seen) <= set(range(2, 22))
    assert epochs[0] != epochs[1]
    assert epochs[0] != [maker(seed=6).samples(0, n) for n in range(3)]


def test_batches_repeat_for_the_same_seed_and_differ_for_others() -> None:
    first = maker().make(1, 2)
    assert equal(first, maker().make(1, 2))
    assert not equal(first, maker(seed=6).make(1, 2))
    assert not equal(first, maker().make(0, 2))


def test_a_sample_is_varied_anew_every_epoch() -> None:
    one = maker(indices=[3], batch=1)
    images = [one.make(epoch, 0)[0] for epoch in range(4)]
    assert len({i.tobytes() for i in images}) == 4


def test_a_samples_augmentation_does_not_depend_on_its_neighbours() -> None:
    full = maker()
    images, labels = full.make(0, 1)
    for place, index in enumerate(full.samples(0, 1)):
        alone = maker(indices=[index], batch=1).make(0, 0)
        assert equal((images[place], labels[place]), [a[0] for a in alone])


def test_evaluation_takes_everything_in_order_and_whole() -> None:
    evaluation = maker(augmentation=None, label_stride=1)
    assert len(evaluation) == 4
    assert [evaluation.samples(0, n) for n in (0, 3)] == [(2, 3, 4, 5, 6, 7), (20, 21)]
    images, labels = evaluation.make(0, 3)
    sample = evaluation.source.load(21)
    expected = evaluation_image(sample.image, 48, 64, Preprocessing())
    np.testing.assert_array_equal(images[1], expected)
    assert images.shape == (2, 48, 64, 3) and labels.shape == (2, 48, 64)
    # Nearest at cell centres: 40 rows to 48, 56 columns to 64.
    rows = ((np.arange(48) + 0.5) * 40 / 48).astype(int)
    cols = ((np.arange(64) + 0.5) * 56 / 64).astype(int)
    np.testing.assert_array_equal(labels[1], sample.labels[rows][:, cols])


# --- Made ahead ---------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 8])
def test_threads_yield_the_same_batches_in_order(workers: int, ahead: int) -> None:
    training = maker(source=Cached(maker().source))
    made = list(prefetch(training, workers, ahead, epoch=4))
    assert len(made) == 3
    for number, batch in enumerate(made):
        assert equal(batch, training.make(4, number))


def test_processes_yield_the_same_batches_and_stay_for_the_next_epoch() -> None:
    training = maker(source=Cached(maker().source))
    with Prefetcher(training, 2, processes=True) as pool:
        for epoch in (0, 1):
            for number, batch in enumerate(pool.epoch(epoch)):
                assert equal(batch, training.make(epoch, number))


def test_a_resumed_epoch_goes_on_with_the_batch_it_left() -> None:
    whole = list(prefetch(maker(), epoch=2))
    rest = list(prefetch(maker(), epoch=2, start=1))
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_no_more_is_made_ahead_than_asked() -> None:
    class Watched(DrawnSource):
        loads = 0

        def load(self, index: int) -> Sample:
            Watched.loads += 1
            return super().load(index)

    source = Watched("train", count=20, size=(32, 32), seed=0)
    training = maker(source=source, indices=range(20), batch=1)
    with Prefetcher(training, 1, ahead=3) as pool:
        batches = pool.epoch(0)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
    assert Watched.loads <= 4


def test_leaving_early_ends_all_threads() -> None:
    for _ in prefetch(maker(), workers=2):
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("mess-data")]


@pytest.mark.parametrize("processes", [False, True])
def test_a_broken_file_surfaces_with_its_name(folder: Path, processes: bool) -> None:
    broken = folder / "images/train/s1_d.png"
    broken.write_bytes(broken.read_bytes()[:60])
    training = maker(
        source=open_folder("train", path=folder), indices=range(4), batch=4
    )
    with (
        Prefetcher(training, 2, processes=processes) as pool,
        pytest.raises(MessError, match=r"s1_d\.png cannot be read"),
    ):
        list(pool.epoch(0))


def test_any_other_error_keeps_its_type_and_names_the_sample() -> None:
    class Faulty(DrawnSource):
        def load(self, index: int) -> Sample:
            raise ZeroDivisionError("a bug")

    training = maker(source=Faulty("train", count=22, size=(40, 56), seed=0))
    with pytest.raises(ZeroDivisionError) as caught:
        list(prefetch(training))
    assert "while preparing 'train_" in caught.value.__notes__[0]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(MessError, match="20 samples do not fill one batch of 21"):
        maker(batch=21)
    with pytest.raises(MessError, match="0 samples do not fill"):
        maker(indices=[], augmentation=None)
    with pytest.raises(MessError, match="batch size is 0"):
        maker(batch=0)
    with pytest.raises(MessError, match="cannot be divided into label cells of 5"):
        maker(label_stride=5)
    with pytest.raises(UsageError, match="workers is -1"):
        Prefetcher(maker(), -1)
    with pytest.raises(UsageError, match="ahead is 0"):
        Prefetcher(maker(), 1, 0)


def test_data_sets_and_batches_need_no_keras() -> None:
    """Worker processes start fast because nothing they need pulls in Keras."""
    code = (
        "import sys; import mess_tf.data.prefetch, mess_tf.data.folder,"
        " mess_tf.data.drawn, mess_tf.data.splits, mess_tf.data.cache;"
        "print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"
