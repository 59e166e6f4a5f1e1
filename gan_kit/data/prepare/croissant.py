"""A prepared data set in Croissant, the vocabulary by which data hubs and loaders describe data sets.

MLCommons, Croissant Format Specification 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html. It is
plain JSON-LD, so no library is needed to write it; the tests read it with `mlcroissant`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_kit.files import sha256_of

__all__ = ["croissant"]

# the specification's, appendix 1
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
SPLITS = {"train": "TrainingSplit", "val": "ValidationSplit", "test": "TestSplit"}
MANIFEST = {
    "name": ("sc:Text", "the source file, relative to the source"),
    "part": ("sc:Text", "which frame or clip of the file, empty for the whole"),
    "status": ("sc:Text", "kept, duplicate, dropped, broken or refused"),
    "reason": ("sc:Text", "why it was not kept"),
    "sha256": ("sc:Text", "of the source file"),
    "split": ("sc:Text", "the split of a kept sample"),
    "row": ("sc:Integer", "its row there, counted over the split's shards"),
    "label": ("sc:Integer", "its class"),
    "cluster": ("sc:Integer", "equal for samples that look or sound alike"),
}


def croissant(out: Path, index: dict[str, Any], name: str, description: str) -> dict[str, Any]:
    """The JSON-LD of the data set in `out`. index: its dataset.json"""
    known = {entry["file"]: entry["sha256"] for entry in index.get("files", ())}
    files = [
        _file(shard["file"], "application/x-npy", shard["sha256"], f"{shard['rows']} rows of the {split} split")
        for split, shards in index["shards"].items()
        for shard in shards
    ]
    if (out / "manifest.jsonl").exists():
        digest = known.get("manifest.jsonl") or sha256_of(out / "manifest.jsonl")
        files.append(_file("manifest.jsonl", "application/jsonlines", digest, "one row a sample or refused file"))
    records = [
        {
            "@type": "cr:RecordSet",
            "@id": "splits",
            "name": "splits",
            "dataType": "cr:Split",
            "key": {"@id": "splits/name"},
            "field": [_field("splits/name", "sc:Text"), _field("splits/url", "sc:URL")],
            "data": [
                {"splits/name": s, "splits/url": f"cr:{SPLITS[s]}"}
                for s, n in index["counts"].items()
                if n and s in SPLITS
            ],
        }
    ]
    if index["class_names"]:
        records.append({
            "@type": "cr:RecordSet",
            "@id": "classes",
            "name": "classes",
            "dataType": "sc:Enumeration",
            "key": {"@id": "classes/label"},
            "field": [_field("classes/label", "sc:Integer"), _field("classes/name", "sc:Text")],
            "data": [{"classes/label": i, "classes/name": n} for i, n in enumerate(index["class_names"])],
        })  # fmt: skip
    if (out / "manifest.jsonl").exists():
        fields = [
            _field(f"samples/{column}", kind, text)
            | {"source": {"fileObject": {"@id": "manifest.jsonl"}, "extract": {"column": column}}}
            for column, (kind, text) in MANIFEST.items()
        ]
        records.append({"@type": "cr:RecordSet", "@id": "samples", "name": "samples", "field": fields})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "version": f"1.0.0+{index['sha256'][:12]}" if index.get("sha256") else "1.0.0",
        "distribution": files,
        "recordSet": records,
    }


def _file(name: str, kind: str, sha256: str, text: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "description": text,
        "contentUrl": name, "encodingFormat": kind, "sha256": sha256,
    }  # fmt: skip


def _field(place: str, kind: str, text: str = "") -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": place, "name": place, "dataType": kind}
    return field | {"description": text} if text else field
