"""Fills the statistics, in chunks that survive a kill."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mess_tf.core.errors import MessError
from mess_tf.core.segmentation_metrics import Areas, count_areas
from mess_tf.core.statistics import Statistics
from mess_tf.core.supernet_spec import SupernetSpec
from mess_tf.data.augment import evaluation_image
from mess_tf.data.sources import Source
from mess_tf.data.splits import Part
from mess_tf.evaluation.predict import upsampled_classes
from mess_tf.evaluation.runners import Runner
from mess_tf.policies.comparison_exit import reference_exit
from mess_tf.policies.registry import keys_at

CHUNK = 16
"""Images between two savings: what a kill can cost."""

_WORKERS = 2


def evaluate(
    runner: Runner,
    spec: SupernetSpec,
    source: Source,
    parts: Sequence[Part],
    policy_keys: Sequence[str],
    path: Path,
    fingerprint: str,
    progress: Callable[[int], object],
) -> Statistics:
    """Runs every head on every image and stores ``Statistics`` at ``path``.

    mIoU will be at the resolution of the labels: the logits that leave the network (on
    the common output grid) are upsampled to each label map.

    Args:
        runner: the pieces or the Keras model.
        spec: structure of the supernet.
        source: the images with labels.
        parts: per image ``calibration`` or ``report``.
        policy_keys: those of ``runner``, e.g. ``["mean", "eq7@0.9"]``.
        path: of the ``.npz``; finished chunks lie in a folder beside it until the end.
        fingerprint: of the model's files; chunks of another one are not reused.
        progress: called with how many more images are done.

    Raises:
        MessError: an image cannot be read (the file is named), or the disk is full.
    """
    if source.classes != spec.classes:
        raise MessError(
            f"The data set has the classes {', '.join(source.classes)}; this network"
            f" was trained on {', '.join(spec.classes)}."
        )
    folder = (
        path.parent
        / f"{path.stem}.partial"
        / _key(fingerprint, source, policy_keys, runner.parameters)
    )
    chunks = []
    for start in range(0, len(source), CHUNK):
        indices = range(start, min(start + CHUNK, len(source)))
        chunk_path = folder / f"{start:06d}.npz"
        if chunk_path.is_file():
            chunks.append(Statistics.load(chunk_path))
            progress(len(indices))
            continue
        chunk = _evaluate_chunk(
            runner, spec, source, parts, policy_keys, indices, progress
        )
        chunk.save(chunk_path)
        chunks.append(chunk)
    statistics = _joined(chunks)
    statistics.save(path)
    shutil.rmtree(folder.parent)
    return statistics


def _key(
    fingerprint: str,
    source: Source,
    policy_keys: Sequence[str],
    parameters: Mapping[str, np.ndarray],
) -> str:
    text = "\n".join([fingerprint, *source.names, *policy_keys])
    digest = hashlib.sha256(text.encode())
    for values in parameters.values():
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def _evaluate_chunk(
    runner: Runner,
    spec: SupernetSpec,
    source: Source,
    parts: Sequence[Part],
    policy_keys: Sequence[str],
    indices: Sequence[int],
    progress: Callable[[int], object],
) -> Statistics:
    has = [
        set(keys_at(policy_keys, reference_exit(spec, exit_index)))
        for exit_index, _ in spec.head_names()
    ]
    areas: list[list[Areas]] = []
    confidence: list[list[list[float]]] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for index in indices:
            sample = source.load(index)
            image = evaluation_image(
                sample.image, spec.image_height, spec.image_width, spec.preprocessing
            )
            # LiteRT runs here, upsampling and counting of earlier heads beside it.
            outputs, futures = [], []
            for output in runner.run(image):
                outputs.append(output.confidence)
                futures.append(pool.submit(_count, output.output, sample.labels))
            areas.append([future.result() for future in futures])
            confidence.append(
                [
                    [values[key] if key in keys else np.nan for key in policy_keys]
                    for values, keys in zip(outputs, has, strict=True)
                ]
            )
            progress(1)
    values = np.array(confidence, np.float32)  # (images, heads, policies)
    return Statistics(
        images=tuple(source.names[i] for i in indices),
        groups=tuple(source.groups[i] for i in indices),
        parts=tuple(parts[i] for i in indices),
        heads=spec.head_names(),
        classes=spec.classes,
        true_area=np.array([heads[0].true for heads in areas]),
        predicted_area=np.array([[a.predicted for a in heads] for heads in areas]),
        intersection=np.array([[a.intersection for a in heads] for heads in areas]),
        confidence={key: values[:, :, i] for i, key in enumerate(policy_keys)},
        source=runner.source,
        parameters=runner.parameters,
    )


def _count(logits: np.ndarray, labels: np.ndarray) -> Areas:
    predicted = upsampled_classes(logits, *labels.shape)
    return count_areas(labels, predicted, logits.shape[-1])


def _joined(chunks: Sequence[Statistics]) -> Statistics:
    def along_images(name: str) -> np.ndarray:
        return np.concatenate([getattr(chunk, name) for chunk in chunks])

    return dataclasses.replace(
        chunks[0],
        images=sum((chunk.images for chunk in chunks), ()),
        groups=sum((chunk.groups for chunk in chunks), ()),
        parts=sum((chunk.parts for chunk in chunks), ()),
        true_area=along_images("true_area"),
        predicted_area=along_images("predicted_area"),
        intersection=along_images("intersection"),
        confidence={
            key: np.concatenate([chunk.confidence[key] for chunk in chunks])
            for key in chunks[0].confidence
        },
    )
