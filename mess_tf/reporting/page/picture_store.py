"""Sample images in the page: each stands there once, and is used by its name."""

from __future__ import annotations

from dataclasses import dataclass

from mess_tf.reporting.gallery import Gallery, Head
from mess_tf.reporting.images import classes_uri, css_colour, photo_uri, sure_uri


@dataclass(frozen=True, eq=False)
class PictureStore:
    """A gallery with names for its pictures.

    Attributes:
        name: of the gallery, unlike any other's on the page.
    """

    name: str
    gallery: Gallery

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a picture."""
        height, width = self.gallery.samples[0].picture.shape[:2]
        return width, height

    def photo(self, sample: int) -> str:
        return f"{self.name}-{sample}"

    def labels(self, sample: int) -> str:
        return f"{self.name}-{sample}-labels"

    def classes(self, sample: int, head: Head) -> str:
        return f"{self.name}-{sample}-{head[0]}-{head[1]}"

    def confidence(self, sample: int, head: Head) -> str:
        return f"{self.name}-{sample}-{head[0]}-{head[1]}-sure"

    def smoothed(self, sample: int, head: Head) -> str:
        return f"{self.name}-{sample}-{head[0]}-{head[1]}-smoothed"

    def uris(self, ends: set[Head]) -> list[tuple[str, str, bool]]:
        """(name, data address, drawn in cells) of every picture.

        Args:
            ends: heads whose confidence maps are shown too.
        """
        palette = self.gallery.palette
        found = []
        for k, sample in enumerate(self.gallery.samples):
            found.append((self.photo(k), photo_uri(sample.picture), False))
            found.append((self.labels(k), classes_uri(sample.labels, palette), False))
            for head, output in sample.outputs.items():
                uri = classes_uri(output.classes, palette)
                found.append((self.classes(k, head), uri, False))
                if head in ends:
                    found.append(
                        (
                            self.confidence(k, head),
                            sure_uri(output.confidence_map),
                            True,
                        )
                    )
                    uri = sure_uri(output.smoothed_map)
                    found.append((self.smoothed(k, head), uri, True))
        return found

    @property
    def colours(self) -> list[str]:
        """A CSS colour per class."""
        return [css_colour(colour) for colour in self.gallery.palette]
