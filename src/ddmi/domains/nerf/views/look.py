"""The first look at a source: what is wrong with the cameras, pictures and points of a few of its objects."""

from __future__ import annotations

import logging

from ddmi.base.errors import UserError
from ddmi.domains.nerf.hull import silhouettes
from ddmi.domains.nerf.posed import Finding, findings, fits
from ddmi.domains.nerf.views.box import Boxed, evenly
from ddmi.domains.nerf.views.clouds import Clouds
from ddmi.domains.nerf.views.contents import one_line

log = logging.getLogger(__name__)

LEAST_FITTING = 0.8
"""Share of the coloured points that should lie in the silhouettes."""


def look(objects: list[Boxed], clouds: Clouds, count: int) -> None:
    """Warn of what looks wrong in `count` objects, evenly among all, or refuse what cannot be trained on.

    Raises:
        UserError: something is fatal in every one of them.
    """
    if count < 1:
        return
    indices = [int(index) for index in evenly(len(objects), count)]
    found = {index: _findings(objects[index], clouds, index) for index in indices}
    fatal = [(index, f.text) for index, those in found.items() for f in those if f.fatal]
    if len({index for index, _ in fatal}) == len(indices):
        index, text = fatal[0]
        raise UserError(_named(objects[index], text))
    for index, those in found.items():
        for finding in those:
            log.warning("%s", _named(objects[index], finding.text))


def _named(one: Boxed, text: str) -> str:
    place = str(one.scene.place)
    return text if text.startswith(place) else f"{place}: {text}"


def _findings(one: Boxed, clouds: Clouds, index: int) -> list[Finding]:
    try:
        views, pictures = one.some()
        given = one.scene.cloud is not None
        points = clouds.read(index)[0] if given else None
        found = findings(views, pictures, points)
        masks = silhouettes(pictures)
        if masks is None and not given:
            told = "there are no coloured points, and the pictures have neither alpha nor a white or black background"
            found.append(Finding(told, True))
        if masks is not None and points is not None and not any(finding.fatal for finding in found):
            share = fits(views, masks, points)
            if share < LEAST_FITTING:
                told = f"only {share:.0%} of the coloured points lie in the silhouettes of the views"
                found.append(Finding(told, False))
    except UserError as error:
        return [Finding(str(error), True)]
    except Exception as error:  # what one object's files make numpy raise
        return [Finding(f"cannot be looked at: {one_line(error) or type(error).__name__}", True)]
    return found
