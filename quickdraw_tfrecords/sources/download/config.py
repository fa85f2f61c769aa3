"""How to download: the settings that the converter and the command of its own share."""

import dataclasses

from quickdraw_tfrecords.base.settings import setting
from quickdraw_tfrecords.sources.download import bucket


@dataclasses.dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """How to download."""

    base_url: str = setting(
        bucket.BASE_URL, "Folder of the <class>.npy files on a server.", group="download"
    )
    selection: bucket.Selection = setting(
        "spread",
        "What to fetch of each class: runs of drawings spread over its file, or the first.",
        group="download",
    )
    connections: int = setting(
        8, "Requests to make at a time.", group="download", minimum=1, maximum=64
    )
