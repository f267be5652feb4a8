"""The teacher's scores on disk: written once, addressed by what was scored, refused where they do not belong."""

from distill.teacher_cache.cached_sequence import CachedSequence
from distill.teacher_cache.cluster import fill_cache
from distill.teacher_cache.codecs import (
    CODECS,
    Codec,
    CodecName,
    EncodedRows,
    HeadShape,
    HiddenDtype,
    Samples,
    TierSettings,
    TopK,
    make_codec,
)
from distill.teacher_cache.endpoint import ENDPOINT_CODECS, EndpointTeacher, served_fingerprint
from distill.teacher_cache.gc import Garbage, collect_garbage, is_being_written
from distill.teacher_cache.histograms import Histogram, histograms, write_pair_ids
from distill.teacher_cache.inspection import inspect, verify
from distill.teacher_cache.manifest import CacheManifest, ShardRecord, TierManifest, read_manifest
from distill.teacher_cache.reader import (
    DISTRIBUTION_CODECS,
    HIDDEN_STATE_CODECS,
    SCORE_CODECS,
    TeacherCache,
)
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.streaming import Prefetched, prefetched
from distill.teacher_cache.teacher_source import TeacherSource
from distill.teacher_cache.vocabulary import tokenizer_fingerprint
from distill.teacher_cache.worker import score_sequences

__all__ = [
    "CODECS",
    "DISTRIBUTION_CODECS",
    "ENDPOINT_CODECS",
    "HIDDEN_STATE_CODECS",
    "SCORE_CODECS",
    "CacheManifest",
    "CacheSettings",
    "CachedSequence",
    "Codec",
    "CodecName",
    "EncodedRows",
    "EndpointTeacher",
    "Garbage",
    "HeadShape",
    "HiddenDtype",
    "Histogram",
    "Prefetched",
    "Samples",
    "ShardRecord",
    "TeacherCache",
    "TeacherSource",
    "TierManifest",
    "TierSettings",
    "TopK",
    "collect_garbage",
    "fill_cache",
    "histograms",
    "inspect",
    "is_being_written",
    "make_codec",
    "prefetched",
    "read_manifest",
    "score_sequences",
    "served_fingerprint",
    "tokenizer_fingerprint",
    "verify",
    "write_pair_ids",
]
