"""Small wheels, built in memory: the files and the metadata that installers look at, nothing to run."""

import hashlib
import io
import zipfile
from base64 import urlsafe_b64encode
from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote


class WheelParts(NamedTuple):
    """What a wheel says of itself."""

    name: str
    version: str
    tag: str = "py3-none-any"
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


class Wheel(WheelParts):
    """A wheel that is built when it is first asked for; the same bytes each time."""

    @property
    def filename(self) -> str:
        return f"{self._distribution}-{self.version}-{self.tag}.whl"

    @property
    def _distribution(self) -> str:
        return self.name.replace("-", "_")

    @cached_property
    def metadata(self) -> bytes:
        rows = ["Metadata-Version: 2.1", f"Name: {self.name}", f"Version: {self.version}"]
        rows += [f"Provides-Extra: {extra}" for extra in self.extras]
        rows += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        return ("\n".join(rows) + "\n").encode()

    @cached_property
    def content(self) -> bytes:
        info = f"{self._distribution}-{self.version}.dist-info"
        files = {
            f"{self._distribution}/__init__.py": f"__version__ = {self.version!r}\n".encode(),
            f"{info}/METADATA": self.metadata,
            f"{info}/WHEEL": (
                f"Wheel-Version: 1.0\nGenerator: uvtorch-tests\nRoot-Is-Purelib: false\nTag: {self.tag}\n"
            ).encode(),
        }
        record = "".join(f"{path},sha256={_base64(data)},{len(data)}\n" for path, data in files.items())
        files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, data in files.items():
                archive.writestr(zipfile.ZipInfo(path), data)  # ZipInfo's date is fixed
        return buffer.getvalue()

    def link(self) -> str:
        """This wheel's line on an index page (PEP 503), with both hashes (PEP 658, PEP 714)."""
        whole, metadata = (hashlib.sha256(data).hexdigest() for data in (self.content, self.metadata))
        href = f"{quote(self.filename)}#sha256={whole}"  # `+` is %2B, as PyTorch's own pages have it
        return f'<a href="{href}" data-core-metadata="sha256={metadata}">{self.filename}</a><br/>'


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
