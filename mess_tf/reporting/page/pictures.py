"""Sample images in the page: each stands there once, and is used by its name."""

from __future__ import annotations

from dataclasses import dataclass

from mess_tf.reporting.gallery import Gallery, Head
from mess_tf.reporting.images import classes_uri, css_colour, photo_uri, sure_uri


@dataclass(frozen=True, eq=False)
class Pictures:
    """A gallery with names for its pictures.

    Attributes:
        name: of the gallery, unlike any other's on the page.
    """

    name: str
    gallery: Gallery

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a picture."""
        height, width = self.gallery.shots[0].picture.shape[:2]
        return width, height

    def photo(self, shot: int) -> str:
        return f"{self.name}-{shot}"

    def labels(self, shot: int) -> str:
        return f"{self.name}-{shot}-labels"

    def classes(self, shot: int, head: Head) -> str:
        return f"{self.name}-{shot}-{head[0]}-{head[1]}"

    def sure(self, shot: int, head: Head) -> str:
        return f"{self.name}-{shot}-{head[0]}-{head[1]}-sure"

    def smoothed(self, shot: int, head: Head) -> str:
        return f"{self.name}-{shot}-{head[0]}-{head[1]}-smoothed"

    def uris(self, ends: set[Head]) -> list[tuple[str, str, bool]]:
        """(name, data address, drawn in cells) of every picture.

        Args:
            ends: heads whose confidence maps are shown too.
        """
        palette = self.gallery.palette
        found = []
        for k, shot in enumerate(self.gallery.shots):
            found.append((self.photo(k), photo_uri(shot.picture), False))
            found.append((self.labels(k), classes_uri(shot.labels, palette), False))
            for head, look in shot.looks.items():
                uri = classes_uri(look.classes, palette)
                found.append((self.classes(k, head), uri, False))
                if head in ends:
                    found.append((self.sure(k, head), sure_uri(look.sure), True))
                    uri = sure_uri(look.smoothed)
                    found.append((self.smoothed(k, head), uri, True))
        return found

    @property
    def colours(self) -> list[str]:
        """A CSS colour per class."""
        return [css_colour(colour) for colour in self.gallery.palette]
