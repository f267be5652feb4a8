"""Text to aligned tokens: sources, records, templates, batches and their order."""

from distill.data.order import epoch_order, rank_share, step_indices, steps_per_epoch
from distill.data.packing import SequenceBatch, batches_by_length, conversation_row, pad_rows, sequence_row
from distill.data.records import Conversation, Message, PreferencePair
from distill.data.sequences import TokenizedConversation, TokenizedPair, TokenizedSequence, sequence_id
from distill.data.sources import (
    DataSettings,
    load_splits,
    read_conversations,
    read_pairs,
    write_conversations,
    write_pairs,
)
from distill.data.templates import (
    CHAT_TEMPLATE,
    END_OF_TURN,
    PAD,
    SPECIAL_TOKENS,
    ChatTokenizer,
    end_of_turn_id,
    has_generation_markers,
    render_dialogue,
    render_prompt,
    template_hash,
    tokenize_completion,
    tokenize_conversation,
    tokenize_pair,
    without_generation_markers,
)

__all__ = [
    "CHAT_TEMPLATE",
    "END_OF_TURN",
    "PAD",
    "SPECIAL_TOKENS",
    "ChatTokenizer",
    "Conversation",
    "DataSettings",
    "Message",
    "PreferencePair",
    "SequenceBatch",
    "TokenizedConversation",
    "TokenizedPair",
    "TokenizedSequence",
    "batches_by_length",
    "conversation_row",
    "end_of_turn_id",
    "epoch_order",
    "has_generation_markers",
    "load_splits",
    "pad_rows",
    "rank_share",
    "read_conversations",
    "read_pairs",
    "render_dialogue",
    "render_prompt",
    "sequence_id",
    "sequence_row",
    "step_indices",
    "steps_per_epoch",
    "template_hash",
    "tokenize_completion",
    "tokenize_conversation",
    "tokenize_pair",
    "without_generation_markers",
    "write_conversations",
    "write_pairs",
]
