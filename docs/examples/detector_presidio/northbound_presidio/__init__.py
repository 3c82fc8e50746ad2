"""A detector for northbound: what Microsoft Presidio recognises."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, Self

import pydantic
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from spacy import blank, load
from spacy.language import Language
from spacy.util import is_package

import northbound

#: Presidio gives a pattern up after a minute and says only in its log that it did. A search that took longer than this
#: (seconds) counts as failed, so that the event is withheld.
_LONGEST: Final = 1.0


class _Loaded(SpacyNlpEngine):
    """A pipeline that is there already: Presidio's own engine downloads what is not."""

    def __init__(self, language: str, pipeline: Language) -> None:
        super().__init__()
        self.nlp = {language: pipeline}  # type: ignore[assignment]  # it is None in theirs


@cache
def _analyzer(language: str, model: str | None) -> AnalyzerEngine:
    engine = _Loaded(language, blank(language) if model is None else load(model))
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=engine)
    if model is None:
        registry.remove_recognizer("SpacyRecognizer")  # it would promise names and find none
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[language])


class Options(pydantic.BaseModel):
    """What ``[privacy.detectors.NAME]`` may say."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    entities: tuple[str, ...] = pydantic.Field(min_length=1, description="Presidio's names of what to find.")
    language: str = pydantic.Field("en", description="Language of the texts.")
    model: str | None = pydantic.Field(None, description="A spaCy pipeline, installed or a folder: PERSON needs one.")
    score: float = pydantic.Field(0.5, ge=0, le=1, description="How sure Presidio must be.")
    longest: int = pydantic.Field(2_000, ge=1, description="A longer text (in characters) cannot be evaluated.")

    @pydantic.model_validator(mode="after")
    def _known(self) -> Self:
        model = self.model
        if model is not None and not is_package(model) and not Path(model).is_dir():
            raise ValueError(f"no spaCy pipeline {model!r} is installed, and it is no folder")
        known = sorted(_analyzer(self.language, model).get_supported_entities(self.language))
        missing = sorted(set(self.entities) - set(known))
        if missing:
            raise ValueError(f"without further models or recognisers nothing finds {missing[0]}: {', '.join(known)}")
        return self


class Presidio(northbound.Detector):
    """What Microsoft Presidio recognises."""

    Config = Options  # no literals: any text may hold a name

    def find(self, text: str, key: str) -> Iterable[northbound.Found]:
        """Give what Presidio is sure of; the words of ``key`` are its context. Raises where it cannot be sure."""
        if not text.strip():
            return ()
        config: Options = self.config
        if len(text) > config.longest:
            raise ValueError(f"a text of {len(text)} characters: the most is {config.longest}")
        begun = time.perf_counter()
        results = _analyzer(config.language, config.model).analyze(
            text,
            language=config.language,
            entities=list(config.entities),
            score_threshold=config.score,
            context=re.findall("[a-z]+", key.lower()),
        )
        if time.perf_counter() - begun > _LONGEST:
            raise TimeoutError(f"Presidio took more than {_LONGEST:g} s for one text")
        return _apart(sorted((result.start, result.end) for result in results))


def _apart(spans: list[tuple[int, int]]) -> list[northbound.Found]:
    """Return spans in order, those that overlap as one."""
    found: list[northbound.Found] = []
    for start, end in spans:
        if found and start < found[-1].end:
            found[-1] = northbound.Found(found[-1].start, max(end, found[-1].end))
        else:
            found.append(northbound.Found(start, end))
    return found


@northbound.hookimpl
def northbound_detectors() -> Mapping[str, type[northbound.Detector]]:
    """Provide the type ``presidio``."""
    return {"presidio": Presidio}
