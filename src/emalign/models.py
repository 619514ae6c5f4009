"""Where a model is: a Hub id with a revision, a folder, or one of the toy models that ship with the package."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from emalign.errors import ConfigError
from emalign.rows import digest

TOY = {"toy/base": "base", "toy/judge": "judge"}
SAMPLED_BYTES = 1 << 20


@dataclass(frozen=True)
class Located:
    """`source` is a folder or a Hub id; `revision` only for the latter; `fingerprint` changes when the weights do."""

    source: str
    revision: str | None
    fingerprint: str


def locate(model: str, revision: str | None = None) -> Located:
    """Find a model without loading it. Raises ConfigError where a folder lacks what a model needs."""
    if model in TOY:
        folder = Path(__file__).parent / "toy" / "models" / TOY[model]
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{model} has not been built", where=str(folder), do="emalign toy build")
        return Located(str(folder), None, folder_fingerprint(str(folder)))
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            held = "an adapter" if (path / "adapter_config.json").is_file() else "no config.json"
            raise ConfigError(
                f"{model} holds {held}, not a model",
                where=str(path),
                do="give the base model here, and an adapter under `from:` of an arm",
            )
        return Located(str(path), None, folder_fingerprint(str(path)))
    if model.count("/") != 1 or model.startswith(("/", "./", "../", "~")):
        raise ConfigError(
            f"there is no model {model!r}",
            where="base.model or judge.model",
            do="give a Hub id (owner/name), an existing folder, or toy/base",
        )
    return Located(model, revision, digest([model, revision or "main"]))


def locate_adapter(adapter: str, base_dir: Path) -> Located:
    """Find an adapter in a folder or on the Hub (`owner/name` or `owner/name@revision`)."""
    for path in (base_dir / Path(adapter).expanduser(), Path(adapter).expanduser()):
        if path.is_dir():
            if not (path / "adapter_model.safetensors").is_file():
                raise ConfigError(
                    f"{adapter} holds no adapter_model.safetensors",
                    where=str(path),
                    do="give a folder with adapter_config.json and adapter_model.safetensors; pickles are not read",
                )
            return Located(str(path.resolve()), None, folder_fingerprint(str(path.resolve())))
    name, _, revision = adapter.partition("@")
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise ConfigError(
            f"`from: {adapter}` is neither an arm, nor a folder, nor a Hub adapter",
            do="name an arm of the study, an existing folder, or owner/name",
        )
    return Located(name, revision or None, digest([name, revision or "main"]))


def fetched_adapter(located: Located) -> Path:
    """A local folder with the adapter's two files, fetched from the Hub where it is not a folder already.

    Pickled weights are never fetched. Raises ConfigError where the Hub does not hand the files out.
    """
    if Path(located.source).is_dir():
        return Path(located.source)
    from huggingface_hub import snapshot_download

    files = ["adapter_config.json", "adapter_model.safetensors"]
    try:
        folder = Path(snapshot_download(located.source, revision=located.revision, allow_patterns=files))
    except OSError as error:
        raise ConfigError(
            f"the adapter could not be fetched: {error}",
            where=located.source,
            do="check its name, that your token may read it, and the network; or give a folder",
        ) from error
    if not (folder / files[1]).is_file():
        raise ConfigError(
            "the Hub repository holds no adapter_model.safetensors",
            where=located.source,
            do="name a repository with a safetensors adapter; pickles are not read",
        )
    return folder


@functools.cache
def folder_fingerprint(folder: str) -> str:
    """Digest of a model folder's configs and weights; of a large shard its size, first and last MiB."""
    root, seen = Path(folder), hashlib.sha256()
    kept = (*root.glob("*.safetensors"), *root.glob("*.json"), *root.glob("*.jinja"))
    for path in sorted(kept):
        size = path.stat().st_size
        seen.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= 64 * SAMPLED_BYTES:
                seen.update(file.read())
            else:
                seen.update(file.read(SAMPLED_BYTES))
                file.seek(-SAMPLED_BYTES, 2)
                seen.update(file.read())
    return seen.hexdigest()[:16]


def adapter_shape(folder: Path) -> dict[str, object]:
    """The LoRA fields of an adapter that a continued training must share."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return {
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "rslora": bool(config.get("use_rslora")),
        "target_modules": sorted(config["target_modules"]),
    }
