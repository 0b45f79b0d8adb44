"""The Arrow schemas of what `segkit extract` writes; every field carries its description.

>>> describe(SEGMENTS)["context_s"]
'length of the context at the beginning of the audio'
"""

import pyarrow as pa

SCHEMA_VERSION = "3"

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How `datasets.Audio` stores a clip: the bytes of an encoded file, and a name for it."""

INTERVALS = pa.list_(pa.list_(pa.float64()))
"""`[[start_s, end_s], ...]`, sorted and disjoint."""

_SEGMENT_WORD = pa.struct(
    [
        ("speaker", pa.string()),
        ("text", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("confidence", pa.float64()),
    ]
)
_RECORDING_WORD = pa.struct([("channel", pa.int8()), *[field for field in _SEGMENT_WORD if field.name != "speaker"]])
_COUNT = pa.struct([("reason", pa.string()), ("count", pa.int64())])
_WARNING = pa.struct([("reason", pa.string()), ("detail", pa.string())])
_LEAK = pa.struct([("level_db", pa.float64()), ("delay_s", pa.float64())])
_TRACK = pa.struct(
    [
        ("path", pa.string()),
        ("channel", pa.int32()),
        ("offset_s", pa.float64()),
        ("speaker", pa.string()),
        ("rate_hz", pa.int32()),
        ("frames", pa.int64()),
    ]
)


def _schema(fields: list[tuple[str, pa.DataType, str]]) -> pa.Schema:
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in fields],
        metadata={"segkit_schema_version": SCHEMA_VERSION},
    )


SEGMENTS = _schema(
    [
        ("id", pa.string(), "stable hash of corpus, recording, axis, roles, times and settings"),
        ("axis", pa.string(), "pause, turn_taking, backchannel or interruption"),
        ("corpus", pa.string(), "name of the corpus adapter"),
        ("recording_id", pa.string(), "the recording, unique within the corpus"),
        ("split", pa.string(), "train, validation or test; nobody whose name is known is in two of them"),
        ("language", pa.string(), "BCP 47 code; null when unknown"),
        ("licence", pa.string(), "terms of the recording"),
        ("user", AUDIO, "audio of the user X, mono FLAC: context, then segment; null in annotations"),
        ("agent", AUDIO, "audio of the agent Y, mono FLAC, as long as the user's"),
        ("user_hash", pa.string(), "hash of the user's decoded 16-bit samples, to check audio that was rebuilt"),
        ("agent_hash", pa.string(), "hash of the agent's decoded 16-bit samples, to check audio that was rebuilt"),
        ("context_s", pa.float64(), "length of the context at the beginning of the audio"),
        ("duration_s", pa.float64(), "length of the segment, the rest of the audio"),
        ("start_s", pa.float64(), "start of the segment in the recording"),
        ("end_s", pa.float64(), "end of the segment in the recording"),
        ("user_speaker", pa.string(), "who speaks as the user"),
        ("agent_speaker", pa.string(), "who speaks as the agent"),
        ("user_channel", pa.int8(), "track of the user in the recording, 0 or 1"),
        ("agent_channel", pa.int8(), "track of the agent in the recording, 0 or 1"),
        ("user_activity", INTERVALS, "speech of the user from segment start; negative in the context"),
        ("agent_activity", INTERVALS, "speech of the agent from segment start; negative in the context"),
        ("pauses", INTERVALS, "pause: the user's pauses, from segment start"),
        ("turn_end_s", pa.float64(), "turn_taking: end of the user's turn, from segment start"),
        (
            "gap_s",
            pa.float64(),
            "turn_taking: start of the agent's turn minus end of the user's; negative for an overlap",
        ),
        ("backchannels", INTERVALS, "backchannel: the agent's short utterances, from segment start"),
        ("interruption_start_s", pa.float64(), "interruption: the user comes in, from segment start"),
        ("interruption_end_s", pa.float64(), "interruption: the user's utterance ends, from segment start"),
        (
            "words",
            pa.list_(_SEGMENT_WORD),
            "words of user and agent from segment start; null without a transcript of the whole segment",
        ),
        ("words_hash", pa.string(), "hash of the words, to check those that were rebuilt; null without words"),
        ("words_source", pa.string(), "where the words are from, and whether each is a word or a whole utterance"),
        ("speech_without_words", pa.float64(), "share of the speech outside of all words; null without words"),
        ("words_without_speech", pa.float64(), "share of the words' time outside of speech; null without words"),
        ("overlap_share", pa.float64(), "share of the segment in which both speak at once"),
        ("third_party_s", pa.float64(), "how long somebody else speaks in the segment, as far as the corpus tells"),
        ("derived", pa.string(), "how one signal became two tracks (diarization); null where each has a channel"),
        ("user_snr_db", pa.float64(), "speech over background in the user's audio; null if unmeasurable"),
        ("agent_snr_db", pa.float64(), "speech over background in the agent's audio; null if unmeasurable"),
        (
            "bleed_db",
            pa.float64(),
            "level of a lone speaker in the other one's channel, the worse way round; null if unmeasurable",
        ),
        ("clipped", pa.bool_(), "whether the audio of either speaker is clipped"),
        ("user_path", pa.string(), "source file of the user, relative to the corpus root; null without audio"),
        ("agent_path", pa.string(), "source file of the agent, relative to the corpus root; null without audio"),
        ("segkit_version", pa.string(), "version of segkit that wrote the row"),
        ("settings_hash", pa.string(), "hash of the settings, as in run.json"),
    ]
)
"""A row of `data/<axis>/*.parquet`: one segment with its audio."""

ANNOTATIONS = _schema(
    [
        ("recording_id", pa.string(), "the recording, unique within the corpus"),
        ("corpus", pa.string(), "name of the corpus adapter"),
        ("language", pa.string(), "BCP 47 code; null when unknown"),
        ("licence", pa.string(), "terms of the recording"),
        ("duration_s", pa.float64(), "length of the recording; null if unusable"),
        ("tracks", pa.list_(_TRACK), "the two tracks; path relative to the corpus root, null without audio"),
        ("derived", pa.string(), "how one signal became two tracks (diarization); null where each has a channel"),
        ("activity", pa.list_(INTERVALS), "speech of each track, seconds of the recording"),
        ("others", INTERVALS, "speech of third parties, seconds of the recording"),
        ("words", pa.list_(_RECORDING_WORD), "words, sorted by start; null without a transcript"),
        ("words_source", pa.string(), "where the words are from, and whether each is a word or a whole utterance"),
        ("words_dropped", pa.list_(_COUNT), "entries of the transcript that could not be used, by reason"),
        ("transcribed_s", pa.list_(pa.float64()), "start and end of the transcribed part; null: all"),
        (
            "audio_hash",
            pa.list_(pa.string()),
            "hash of each track's samples, without audio of its words; to find duplicates",
        ),
        (
            "bleed",
            pa.list_(_LEAK),
            "of each track: level and delay at which it holds the other one's voice; null if unmeasurable",
        ),
        ("warnings", pa.list_(_WARNING), "what should be known of a recording that is used"),
        ("problem", pa.string(), "why the recording cannot be used; null if it can"),
        ("transcript_problem", pa.string(), "why the transcript cannot be used; null if it can"),
        ("detail", pa.string(), "details of the problem"),
    ]
)
"""A row of `annotations/*.parquet`: one recording, without audio."""


def describe(schema: pa.Schema) -> dict[str, str]:
    """Field names and their descriptions."""
    return {field.name: field.metadata[b"description"].decode() for field in schema}
