"""Posts as people would read them: markup, quoted posts and signatures taken out, spans carried along; what is no post named."""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from collections.abc import Callable, Sequence

from stillhouse.corpus.spans import Replacement, Rewritten, Span, rewrite

Rule = tuple[str, re.Pattern[str], Callable[[re.Match[str]], str]]


def _rule(
    only_with: str, pattern: str, new: str | Callable[[re.Match[str]], str] = "", flags: int = re.I | re.S
) -> Rule:
    """A replacement, tried only on texts that have one of these characters (most posts are plain, and exports are long)."""
    return only_with, re.compile(pattern, flags), (new if callable(new) else lambda _: new)


RULES: tuple[Rule, ...] = (
    # quoted posts are other people's words
    _rule("<", r"<blockquote\b.*?</blockquote>|<aside\b[^>]*quote.*?</aside>", " "),
    _rule("[", r"\[quote[^\]]*\].*?\[/quote[^\]]*\]", " "),
    _rule(">", r"^>.*$", "", re.M),
    _rule("<", r"<(?:script|style)\b.*?</(?:script|style)>"),
    _rule("<", r"<br\s*/?>|</(?:p|div|li|h\d)>", "\n"),
    _rule("<", r"</?[a-z][^<>]{0,300}>"),
    _rule("[", r"\[img[^\]]*\].*?\[/img[^\]]*\]", " "),
    _rule("[", r"\[/?(?:b|i|u|s|url|color|size|font|list|code|email|spoiler|center|\*)(?:[=:][^\]]{0,200})?\]"),
    _rule("&", r"&(?:#\d+|#x[0-9a-f]+|[a-z]+);", lambda m: html.unescape(m[0])),
    # a signature: behind two dashes or a line of underscores, to the end
    _rule("\n", r"\n(?:-- ?|_{5,})\n.*\Z|\nSent from my \w+.*\Z"),
    # invisible characters; the joiner stays, emoji are made with it
    _rule("", r"[\u0000-\u0008\u000b-\u001f\u007f\u00ad\u200b\u200c\u200e\u200f\u202a-\u202e\u2060\ufeff\ufffd]+"),
    _rule("", r"[ \t\u00a0\u2000-\u200a\u3000]{2,}|[\t\u00a0\u2000-\u200a\u3000]", " "),
    _rule("\n", r" \n\s*|\n\s+", "\n"),
    _rule("", r"\A\s+|\s+\Z"),
)
_COMPOSABLE = re.compile(r"[^\W\d_][\u0300-\u036f]+")
BOILERPLATE = re.compile(
    r"^(?:welcome (?:to|aboard)\b|this (?:post|topic|thread) (?:was|has been) (?:automatically|closed|removed|moved|merged|locked)"
    r"|(?:this is )?an? automated message|bump!?$|\(?post (?:deleted|removed)|\[?(?:deleted|removed)\]?$|please read the (?:forum )?rules)",
    re.I,
)
URL = re.compile(r"(?:https?://|www\.)\S+", re.I)
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def clean(text: str, spans: Sequence[Span | None] = ()) -> Rewritten:
    """The words of a post without markup, quoted posts, signatures and invisible characters, accents composed."""
    made = Rewritten(text, tuple(spans))
    for only_with, pattern, new in RULES:
        if only_with not in made.text:
            continue
        replaced = [Replacement(*m.span(), new(m)) for m in pattern.finditer(made.text)]
        made = rewrite(made.text, replaced, made.spans) if replaced else made
    if made.text.isascii():
        return made
    composed = [Replacement(*m.span(), unicodedata.normalize("NFC", m[0])) for m in _COMPOSABLE.finditer(made.text)]
    return rewrite(made.text, composed, made.spans) if composed else made


def words(text: str) -> list[str]:
    """The words in lower case, punctuation dropped."""
    return [m.lower() for m in WORD.findall(text)]


def fingerprint(text: str) -> int:
    """The same 63-bit number for texts of the same words: how copies are found without keeping the texts."""
    digest = hashlib.blake2b(" ".join(words(text)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def unusable(text: str, fewest_words: int = 5) -> str | None:
    """Why a cleaned text is no post to learn from; None for one that is."""
    if not text:
        return "empty"
    if BOILERPLATE.match(text):
        return "boilerplate"
    rest = URL.sub("", text)
    if rest != text and len(words(rest)) < fewest_words:
        return "only links"
    if len(words(text)) < fewest_words:
        return "too short"
    return None
