"""Texts that tokenizers disagree about: what an artefact's tokenizer is held against the model's on."""

from collections.abc import Iterator, Sequence
from itertools import product

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_APOSTROPHES = (
    "o'clock 'tis rock'n'roll",
    "it’s I’LL",
    "'S'T'RE'VE'M'LL'D",
    "' s 't",
    "x'sy",
    "''s",
    "\n's",
    "'\u017f",
    "1's 2'S",
)
_SPACES = (" ", "  ", "   ", "    ", " " * 8, " " * 17, "\t", "\t\t", " \t", "\t ", "\u00a0", "\u3000", "\u2003")
_LINE_ENDS = ("\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", " \n \n", "\t\n", "\n\t", "  \r\n  ")
_MARKS = "!?.,:;-_/\\|@#$%^&*+=~`<>()[]{}\"'"
_NUMBERS = (
    *("7", "42", "365", "2026", "12345", "123456", "1234567", "0123456789", "3.14159", "1,000,000", "1e-5"),
    *("-273.15", "0x1F", "12:30", "2026-01-31", "$4.50", "50%", "1st", "x2", "2x", "4x4", "v1.2.3", "192.168.0.1"),
    *("½", "x²", "Ⅳ", "٣٤٥", "१२३", "一二三", "①②", "1٣2", "+1 (555) 010-9999"),
)
_WORDS = (
    *(
        "Straße",
        "naïve",
        "café",
        "señor",
        "Ångström",
        "Łódź",
        "İstanbul",
        "ﬁne",
        "ﬀ",
        "ǅ",
        "ß",
        "ſ",
        "\u212a",
        "Ω",
        "µm",
    ),
    *("Привет, мир!", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم", "سلام\u200cعلیکم", "नमस\u094dते दुनिया"),
    *("สวัสดีชาวโลก", "こんにちは世界", "你好,世界。", "안녕하세요 세계", "ሰላም ልዑል", "გამარჯობა", "Բարեւ"),
    *("வணக\u0bcdகம\u0bcd", "ខ\u17d2មែរ", "မြန\u103aမာ", "日本語とEnglishのmix", "英語English漢字", "русский+English"),
    *("שלום abc 123 עולם", "abcабвγδε", "ﷺ", "𝓗𝓮𝓵𝓵𝓸", "𐍈𐌰", "𠜎𠜱"),
)
_EMOJI = (
    *("🙂", "🙂🙃", "👍🏽", "👩\u200d👩\u200d👧", "👨🏿\u200d🚀", "🏳️\u200d🌈", "🇩🇪🇫🇷", "❤️", "❤", "1️⃣", "☕ for 2"),
    *("a🙂b", " 🙂 ", "🙂\n", "(🙂)", "🧑\u200d💻's"),
)
_COMBINED = (
    *("e\u0301", "cafe\u0301 noir", "n\u0303o", "a\u0308\u0304", "\u0301", " \u0301x", "Z\u0351\u036b\u0343algo"),
    *(
        "\u1112\u1161\u11ab",
        "\uac00\u11a8",
        "\u0928\u093f",
        "q\u0307\u0323",
        "\u0041\u030a",
        "\u212b",
        "\u2126",
        "i\u0307",
    ),
)
_INVISIBLE = (
    *("\u200b", "a\u200bb", "a\u200cb", "a\u200db", "\ufeffx", "a\xadb", "\u2028x", "\u2029", "\x85", "a\x00b"),
    *("\u200fabc", "\u202eabc\u202c", "\u2066x\u2069", "\x1b[31mred", "\x7f", "\x0b\x0c", "a\u180eb", "\u2060"),
)
_PRIVATE = ("\ue000", "a\uf8ffb", "\U000f0000", "\U0010fffd", "\ufffd", "\ufffe", "\uffff", "\U0001fffe", "\u0378")
_CODE = (
    *("if x == 1:\n    return y  # done", "for(int i=0;i<n;++i){a[i]+=b[i];}"),
    *("\tdef f(self, *args, **kwargs) -> None:", '<div class="a">&amp;</div>', '{"key": [1, 2.5, null, true]}'),
    *("SELECT * FROM t WHERE a<>'b';", "a && b || !c", "#include <stdio.h>\r\nint main(){}\r\n"),
    *("```python\nprint('hi')\n```", 'x = "\\n\\t\\u00e9"', "$HOME/.bash_rc", "::<>::", "camelCaseIdentifier"),
    *("snake_case_identifier", "SCREAMING_SNAKE", "kebab-case-name", "HTTPServer2Go", "i18n", "a.b.c()"),
    *("- [ ] item\n- [x] item\n  * nested", "| a | b |\n|---|---|\n| 1 | 2 |", "# Title\n\n## Sub"),
    *("$$\\frac{a}{b}$$", "a->b=>c", "https://example.org/a/b?c=d&e=%20#f", "www.example.com"),
    *("user.name+tag@example.co.uk", "C:\\Users\\me\\file.txt", "../.."),
)
_LOOKALIKES = (
    *("<|end|", "<|end", "|end|>", "< |end|>", "<| end |>", "<|END|>", "<|unknown|>", "<||>", "<|>", "<|im_end"),
    *("[INST]", "<s", "s>", "< s>", "</ s>", "<<SYS>>", "<think", "[PAD300]", "[PAD0]", "<0x0A>", "<0x41>", "<unk"),
    *("Ġ", "Ċ", "▁", "ĠĠa", "bos_token", "{{ bos_token }}", "{% if x %}", "### Assistant:", "System:", "<tool_call"),
    *("<start_of", "<|a|><|b|>"),
)
_LONG = (
    *("a" * 50, "ab" * 100, "Donaudampfschifffahrtsgesellschaftskapitän"),
    *("pneumonoultramicroscopicsilicovolcanoconiosis", "=" * 80, "-" * 33, "." * 17, "!?" * 20, "\n" * 20, "ha" * 40),
    *("0" * 40, "ÀÉÎÕÜ" * 10, "漢" * 40, "🙂" * 12, "_" * 30),
)


def parity_corpus(added_tokens: Sequence[str] = ()) -> tuple[str, ...]:
    """More than 300 different texts, the same in every run, and one for each of `added_tokens` as it stands in text."""
    texts = [*_texts(), *(f"x{token} {token}{token}\ny" for token in added_tokens)]
    return tuple(dict.fromkeys(texts))


def _texts() -> Iterator[str]:
    for contraction, is_upper in product(_CONTRACTIONS, (False, True)):
        yield f"we{contraction.upper() if is_upper else contraction} go"
    yield from _APOSTROPHES
    for space, pattern in product(_SPACES, ("a{}b", "{}a", "a{}", "1{}2", "({}x")):
        yield pattern.format(space)
    for end, pattern in product(_LINE_ENDS, ("a{}b", "!{}", "{}")):
        yield pattern.format(end)
    for mark in _MARKS:
        yield f"a{mark}b {mark}c {mark}{mark}{mark} {mark} 1{mark}2{mark}\n"
    yield from (*_NUMBERS, *_WORDS, *_EMOJI, *_COMBINED, *_INVISIBLE, *_PRIVATE, *_CODE, *_LOOKALIKES, *_LONG, "")
