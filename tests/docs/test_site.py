"""Parts of the documentation site that a program makes: settings, layers, the check of a built site."""

import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from gold_lightning.generators import OpenAIGenerator

DOCS = Path(__file__).parents[2] / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def configuration():
    return script("generate_configuration")


@pytest.fixture(scope="module")
def architecture():
    return script("generate_architecture")


@pytest.fixture(scope="module")
def fit_settings(configuration):
    return {setting.key: setting for setting in configuration.settings(configuration.parser_of("fit"))}


def test_settings_have_their_type_default_and_help(fit_settings):
    row = fit_settings["data.plan.samples_per_round"]
    assert (row.type, row.default) == ("int", "256") and row.help
    assert fit_settings["data.generator"].default == "EmbeddedGenerator"
    assert fit_settings["model.optimizer"].type == "adamw | adafactor"
    assert fit_settings["data.test_file"].default == "null"


def test_every_setting_says_what_it_means(fit_settings):
    assert [key for key, row in fit_settings.items() if not row.help] == []


def test_linked_settings_are_no_settings(fit_settings):
    assert not {"data.run_dir", "data.seed", "model.task", "trainer.logger.help"} & set(fit_settings)


def test_a_required_setting_says_so(configuration):
    rows = {row.key: row for row in configuration.class_settings(OpenAIGenerator)}
    assert rows["model"].default == "required" and rows["retries"].default == "8"


def test_the_page_has_every_section_and_every_class(configuration):
    page = configuration.page()
    assert [name for name in configuration.SECTIONS if f"## {name}\n" not in page] == []
    for name in ("EmbeddedGenerator", "VLLMGenerator", "SymmetricCrossEntropy", "EnergyScore", "EnergyBand"):
        assert f"### {name}\n" in page
    assert "`preview.count`" in page and "`baselines.rows`" in page


def test_every_module_says_in_one_line_what_it_holds(architecture):
    assert [path.name for path in architecture.files() if not architecture.summary(path)] == []


def test_the_picture_is_of_the_layers(architecture):
    picture = ET.fromstring(architecture.picture())
    boxes = [text.text for text in picture.iter("text")]
    assert sorted(boxes) == sorted(name for layer in architecture.layers() for name in layer)
    assert len([path for path in picture.iter("path") if "marker-end" in path.attrib]) == len(architecture.arrows())


def test_arrows_left_out_are_implied(architecture):
    below = {}
    for name, other in architecture.arrows():
        below.setdefault(name, set()).add(other)

    def reached(name):
        return set().union(*({other} | reached(other) for other in below.get(name, ())))

    assert {name: reached(name) for name in architecture.imports()} == {
        name: set(architecture._reach(name)) for name in architecture.imports()
    }


def test_a_site_that_loads_from_elsewhere_is_refused(tmp_path):
    check = script("check_site")
    (tmp_path / "index.html").write_text(
        '<link rel="canonical" href="https://a.example/"><a href="https://b.example">b</a>'
        '<script src="assets/a.js"></script><img src="//c.example/c.png">'
    )
    (tmp_path / "b.svg").write_text("<style>@font-face { src: url('https://f.example/f.woff2') }</style>")
    (tmp_path / "a.css").write_text("@font-face { src: url(https://d.example/d.woff2) } a { background: url(e.png) }")
    assert [line.rsplit(": ", 1)[-1] for line in check.remote(tmp_path)] == [
        "//c.example/c.png",
        "https://d.example/d.woff2",
        "https://f.example/f.woff2",
    ]
