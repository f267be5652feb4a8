"""The teacher's scores on disk: written once, addressed by what was scored, refused where they do not belong."""

from distill.teacher_cache.codecs import CODECS, Codec, CodecName, HiddenDtype
from distill.teacher_cache.inspection import inspect, verify
from distill.teacher_cache.manifest import CacheManifest, ShardRecord, read_manifest
from distill.teacher_cache.reader import CachedSequence, TeacherCache
from distill.teacher_cache.vocabulary import tokenizer_fingerprint
from distill.teacher_cache.worker import CacheSettings, score_sequences

__all__ = [
    "CODECS",
    "CacheManifest",
    "CacheSettings",
    "CachedSequence",
    "Codec",
    "CodecName",
    "HiddenDtype",
    "ShardRecord",
    "TeacherCache",
    "inspect",
    "read_manifest",
    "score_sequences",
    "tokenizer_fingerprint",
    "verify",
]
