"""Facts about sounds from freesound.org: their identifier, checked, and their licence in SPDX.

Source: licences that Freesound offers and the addresses that its API gives for them,
https://freesound.org/docs/api/resources_apiv2.html and https://freesound.org/help/faq/#licenses.
"""

from __future__ import annotations

import re

from uniwhisper import identifiers
from uniwhisper.sources._fields import upstream_at

__all__ = ["freesound_id", "freesound_license"]

_ADDRESS = re.compile(r"https?://(www\.)?creativecommons\.org/(?P<path>[a-z]+/[a-z0-9+-]+/\d\.\d)(/.*)?")
_SPDX = {
    "publicdomain/zero/1.0": "CC0-1.0",
    "licenses/by/3.0": "CC-BY-3.0",
    "licenses/by/4.0": "CC-BY-4.0",
    "licenses/by-nc/3.0": "CC-BY-NC-3.0",
    "licenses/by-nc/4.0": "CC-BY-NC-4.0",
    "licenses/sampling+/1.0": "LicenseRef-CC-Sampling-Plus-1.0",
    "Creative Commons 0": "CC0-1.0",
}


def freesound_id(text: object, where: str) -> str:
    """Return the identifier of a Freesound sound.

    Raises:
        LayoutError: It is not a number; the message begins with `where`.
    """
    return upstream_at(where, identifiers.freesound, str(text))


def freesound_license(text: str) -> str:
    """Return the SPDX identifier of a licence given by address or name; one without a version stays as it is."""
    match = _ADDRESS.fullmatch(text.strip())
    key = match["path"] if match else text.strip()
    return _SPDX.get(key, key)
