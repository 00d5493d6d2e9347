"""The contract of a detector, asked of everything in the registry in several configurations."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import (
    FEATURES,
    FRE,
    FUSE,
    PATCHCORE,
    PIXELS,
    PROTOAD,
    SIZE,
    SSM_FEATURES,
    SSM_PIXELS,
    Textures,
    planted,
    texture,
)
from unmask.detectors import DETECTORS, Detector, build, find, settings_of
from unmask.errors import ModelFileError, NotFittedError, SettingError, UnmaskError
from unmask.features.backbones import checksum
from unmask.training.trainer import Training
from unmask.types import Prediction

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "isstad features": ("isstad", FEATURES),
    "isstad features, product, input": ("isstad", {**FEATURES, "combine": "product", "target": "input"}),
    "isstad pixels": ("isstad", PIXELS),
    "isstad pixels, extended, input": ("isstad", {**PIXELS, "combine": "extended", "target": "input"}),
    "ssm features": ("ssm", SSM_FEATURES),
    "ssm features, one pass": ("ssm", {**SSM_FEATURES, "passes": 1}),
    "ssm pixels": ("ssm", SSM_PIXELS),
    "ssm pixels, both, three passes": (
        "ssm",
        {**SSM_PIXELS, "backbone": "tiny", "score": "both", "passes": 3, "uncovered": "zero", "weights": "squares"},
    ),
    "patchcore": ("patchcore", PATCHCORE),
    "patchcore, random, turned, two levels apart": (
        "patchcore",
        {**PATCHCORE, "selection": "random", "rotations": 3, "levels": (3,), "peak": 0.0, "coreset": 0.5},
    ),
    "patchcore, raw": ("patchcore", {**PATCHCORE, "score_from": "raw", "peak": 0.0}),
    "fre": ("fre", FRE),
    "fre, as it is": ("fre", {**FRE, "standardise": False}),
    "fre, one level, top": ("fre", {**FRE, "levels": (3,), "peak": 0.05, "pool": 1}),
    "protoad": ("protoad", PROTOAD),
    "protoad, raw": ("protoad", {**PROTOAD, "score_from": "raw", "peak": 0.0}),
    "fuse": ("fuse", FUSE),
    "fuse of three": (
        "fuse",
        {
            **FUSE,
            "parts": "patchcore+isstad+fre",
            "3.pool": 1,
            **{f"isstad.{key}": value for key, value in FEATURES.items() if key not in ("backbone", "image_size")},
        },
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore:no pre-trained weights")


def make(configuration: str, **more: Any) -> Detector:
    name, overrides = CONFIGURATIONS[configuration]
    return build(find(name), "fast", {**overrides, **more})


def fitted(configuration: str, *, seed: int = 0, first: int = 0, n: int = 16, **more: Any) -> Detector:
    detector = make(configuration, **more)
    detector.fit(Textures(n, first), Training(seed=seed, device="cpu"))
    return detector


def new_images(n: int = 3) -> Tensor:
    return torch.stack([texture(seed) for seed in range(500, 500 + n)])


def same(a: Prediction, b: Prediction) -> bool:
    return torch.equal(a.maps, b.maps) and torch.equal(a.scores, b.scores)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def configuration(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detector(configuration: str) -> Detector:
    """Fitted once a configuration; tests only look at it."""
    return fitted(configuration)


def test_every_detector_is_asked() -> None:
    assert {name for name, _ in CONFIGURATIONS.values()} == {detector.name for detector in DETECTORS}


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_detector_says_what_it_is(kind: type[Detector]) -> None:
    assert kind.paper
    assert "fast" in kind.presets
    for preset in kind.presets.values():
        assert set(preset) <= set(settings_of(kind))
    documented = kind.__doc__ or ""
    assert [name for name in settings_of(kind) if f"{name}:" not in documented] == []


@pytest.mark.parametrize(
    ("name", "preset"),
    [(kind.name, preset) for kind in DETECTORS if kind.name not in ("isstad", "ssm") for preset in kind.presets],
)
def test_every_preset_of_the_fast_ones_fits(name: str, preset: str) -> None:
    """Those of isstad and ssm take minutes."""
    made = build(
        find(name),
        preset,
        {"backbone": "tiny", "image_size": SIZE, **({"fre.levels": (2, 3)} if name == "fuse" else {})},
    )
    made.fit(Textures(8), Training(device="cpu"))
    said = made.predict(new_images())
    assert said.maps.isfinite().all()
    assert said.scores.isfinite().all()


def test_its_arguments_rebuild_it(detector: Detector) -> None:
    params = detector.params()
    assert set(params) == set(settings_of(type(detector)))
    assert build(type(detector), "fast", params).params() == params


def test_settings_as_text_are_the_same_settings(configuration: str) -> None:
    name, overrides = CONFIGURATIONS[configuration]
    as_text = {key: str(value) for key, value in overrides.items()}
    assert build(find(name), "fast", as_text).params() == make(configuration).params()


def test_predict_before_fit_says_so(configuration: str) -> None:
    unfitted = make(configuration)
    with pytest.raises(NotFittedError, match="fit"):
        unfitted.predict(new_images())
    with pytest.raises(NotFittedError, match="fit"):
        unfitted.learned()
    with pytest.raises(NotFittedError, match="fit"):
        unfitted.explain(new_images())


def test_shapes_and_kinds(detector: Detector) -> None:
    said = detector.predict(new_images(3))
    assert (said.maps.shape, said.maps.dtype) == ((3, SIZE, SIZE), torch.float32)
    assert (said.scores.shape, said.scores.dtype) == ((3,), torch.float32)
    assert said.maps.isfinite().all()
    assert said.scores.isfinite().all()
    if said.restored is not None:
        assert said.restored.shape == (3, 3, SIZE, SIZE)
        assert 0 <= said.restored.min() <= said.restored.max() <= 1


def test_a_batch_equals_its_images_one_by_one(detector: Detector) -> None:
    images = torch.stack([texture(500), planted(texture(501)), texture(502)])
    together = detector.predict(images)
    for i, image in enumerate(images):
        alone = detector.predict(image[None])
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(alone.scores[0], together.scores[i], rtol=1e-3, atol=1e-4)


def test_looking_changes_nothing(detector: Detector) -> None:
    images = new_images()
    before = images.clone()
    first = detector.predict(images)
    assert torch.equal(images, before)
    assert same(detector.predict(images), first)


def test_an_explanation_is_a_list_of_steps_an_image(detector: Detector) -> None:
    images = new_images(3)
    images[1] = planted(images[1])
    told = detector.explain(images)
    assert len(told) == 3
    for step in (step for steps in told for step in steps):
        assert step.title
        captions = [*step.pictures, *step.maps]
        assert captions
        assert all(captions)
        assert len(set(captions)) == len(captions), "no caption twice"
        shapes = [picture.shape for picture in step.pictures.values()], [one.shape for one in step.maps.values()]
        assert shapes == ([(3, SIZE, SIZE)] * len(step.pictures), [(SIZE, SIZE)] * len(step.maps))
        for one in (*step.pictures.values(), *step.maps.values()):
            assert one.dtype == torch.float32
            assert 0 <= one.min() <= one.max() <= 1


def test_an_explanation_changes_nothing(detector: Detector) -> None:
    images = new_images()
    before, first = images.clone(), detector.predict(images)
    told = detector.explain(images)
    assert torch.equal(images, before)
    assert same(detector.predict(images), first)
    for a, b in zip(told, detector.explain(images), strict=True):
        assert [step.title for step in a] == [step.title for step in b]
        for one, other in zip(a, b, strict=True):
            assert all(torch.equal(picture, other.pictures[caption]) for caption, picture in one.pictures.items())
            assert all(torch.equal(shown, other.maps[caption]) for caption, shown in one.maps.items())


@pytest.mark.parametrize("configuration", ["isstad features", "isstad pixels"], ids=str)
def test_isstad_tells_its_repair(configuration: str) -> None:
    detector = fitted(configuration, stage1_steps=20, stage2_steps=30, batch=8)
    images = new_images(2)
    images[1] = planted(images[1])
    said = detector.predict(images)
    (normal,), (damaged,) = detector.explain(images)
    assert (normal.title, list(normal.maps)) == ("repair", ["probability", "error"])
    if said.restored is None:
        assert normal.pictures == {}
    else:
        assert torch.equal(normal.pictures["repaired"], said.restored[0])
    inside = planted(torch.zeros(1, SIZE, SIZE))[0] > 0
    assert damaged.maps["error"][inside].mean() > 1.2 * damaged.maps["error"][~inside].mean()
    assert damaged.maps["error"].max() > normal.maps["error"].max()


def test_isstad_s_probability_is_its_own_and_its_error_is_full_at_ten_deviations() -> None:
    detector: Any = fitted("isstad pixels")
    images = new_images(2)
    images[1] = planted(images[1])
    with torch.inference_mode():
        terms, _ = detector._terms(detector.tokens.encode(images))
        z = (terms[:, 1] - detector.fusion.map_mean[1]) / detector.fusion.map_std[1]
    told = torch.stack([steps[0].maps["error"] for steps in detector.explain(images)])
    torch.testing.assert_close(told, (z / 10).clamp(0, 1))
    probability = torch.stack([steps[0].maps["probability"] for steps in detector.explain(images)])
    torch.testing.assert_close(probability, terms[:, 0])


def test_learning_leaves_the_images_alone(configuration: str) -> None:
    images = Textures(16)
    before = [image.clone() for image in images.images]
    make(configuration).fit(images, Training(device="cpu"))
    assert all(torch.equal(a, b) for a, b in zip(images.images, before, strict=True))


def test_the_seed_decides(configuration: str, detector: Detector) -> None:
    torch.rand(3)  # what was drawn before must not matter
    images = new_images()
    assert same(fitted(configuration).predict(images), detector.predict(images))
    decides = detector.name != "fre"  # a PCA of all images draws nothing
    assert same(fitted(configuration, seed=1).predict(images), detector.predict(images)) != decides


def test_learning_leaves_the_random_numbers_of_others_alone(configuration: str) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fitted(configuration)
    assert torch.equal(torch.rand(3), expected)


def test_a_second_fit_forgets_the_first(configuration: str, detector: Detector) -> None:
    twice = fitted(configuration, first=100, n=17, seed=5)
    twice.fit(Textures(16), Training(device="cpu"))
    assert same(twice.predict(new_images()), detector.predict(new_images()))


def test_what_it_learned_makes_another_its_equal(configuration: str, detector: Detector) -> None:
    other = make(configuration).restore(detector.learned())
    assert same(other.predict(new_images()), detector.predict(new_images()))
    again = other.learned()
    assert all(torch.equal(again[key], value) for key, value in detector.learned().items())


def test_what_it_learned_is_whole(configuration: str, detector: Detector) -> None:
    learned = detector.learned()
    assert not any("backbone" in key for key in learned), "frozen weights are named, not stored"
    short = dict(list(learned.items())[1:])
    with pytest.raises(ModelFileError, match="fit again"):
        make(configuration).restore(short)
    with pytest.raises(ModelFileError, match="fit again"):
        make(configuration).restore({**learned, "foreign": torch.zeros(1)})


def test_tensors_of_other_settings_are_refused(configuration: str, detector: Detector) -> None:
    others: dict[str, dict[str, Any]] = {
        "isstad": {"decoder_dim": 64},
        "ssm": {"width": 0.125},
        "patchcore": {"levels": (2,)},
        "fre": {"levels": (2, 3) if "one level" in configuration else (2,)},
        "protoad": {"levels": (2,)},
        "fuse": {"fre.levels": (2,)},
    }
    other = make("ssm pixels") if "ssm features" in configuration else make(configuration, **others[detector.name])
    with pytest.raises(ModelFileError, match="fit again"):
        other.restore(detector.learned())


def test_frozen_weights_have_a_checksum(configuration: str, detector: Detector) -> None:
    frozen = {name: value for name, value in detector.named_modules() if name.split(".")[-1] == "backbone"}
    assert len(detector.frozen()) == len(frozen)
    for module in frozen.values():
        net = module.get_submodule("net")
        assert detector.frozen() == {"tiny": checksum(net.state_dict())}
        changed = {key: value.clone() for key, value in net.state_dict().items()}
        next(iter(changed.values())).view(-1)[0] += 1e-3
        assert checksum(changed) not in detector.frozen().values()
    assert make(configuration).frozen() == detector.frozen()


@pytest.mark.parametrize(
    ("configuration", "steps"), [("isstad features", 10), ("isstad features, product, input", 40)], ids=str
)
def test_a_planted_defect_is_the_peak(configuration: str, steps: int) -> None:
    detector = make(configuration, image_size=128, stage1_steps=steps, stage2_steps=steps, batch=8, smoothing=4.0)
    detector.fit(Textures(24, size=128), Training(device="cpu"))
    normal = detector.predict(torch.stack([texture(500 + i, 128) for i in range(6)]))
    for x, y in [(16, 16), (80, 48), (48, 80)]:
        said = detector.predict(planted(texture(600 + x, 128), x, y, 16)[None])
        peak_y, peak_x = divmod(int(said.maps[0].argmax()), 128)
        assert (x <= peak_x < x + 16, y <= peak_y < y + 16) == (True, True), (peak_x, peak_y)
        assert said.scores[0] > normal.scores.max()


@pytest.mark.parametrize(
    ("configuration", "settings"),
    [
        ("isstad pixels", {"stage1_steps": 20, "stage2_steps": 30, "batch": 8}),
        ("ssm pixels", {"steps": 30, "lr": 3e-3, "batch": 8}),
        ("ssm features", {}),
        ("patchcore", {}),
        ("fre", {}),
        ("protoad", {}),
        ("fuse", {}),
    ],
    ids=str,
)
def test_a_planted_defect_raises_the_score(configuration: str, settings: dict[str, Any]) -> None:
    detector = fitted(configuration, **settings)
    images = new_images(6)
    damaged = torch.stack([planted(image) for image in images])
    assert detector.predict(damaged).scores.min() > detector.predict(images).scores.max()


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "time"},
        {"target": "dirty"},
        {"combine": "glued"},
        {"backbone": "resnet"},
        {"image_size": 100},
        {"image_size": "large"},
        {"decoder_heads": 3},
        {"batc": 3},
        {"space": "pixels", "encoder": "vit_giant"},
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        make("isstad features", **wrong)
    assert "\n" not in str(caught.value)
    assert str(list(wrong.values())[-1]) in str(caught.value) or "batc" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e400", "", "x", "1000000000000", "0,0"])
@pytest.mark.parametrize("configuration", ["isstad features", "isstad pixels", "ssm features", "ssm pixels"], ids=str)
def test_no_text_of_a_setting_ends_in_anything_but_one_line(configuration: str, text: str) -> None:
    refusals = []
    for name in settings_of(type(make(configuration))):
        try:
            make(configuration, **{name: text})
        except UnmaskError as error:
            refusals.append(str(error))
    assert len(refusals) > 5
    assert not any("\n" in one for one in refusals)


def test_a_wrong_preset_is_one_line() -> None:
    with pytest.raises(SettingError, match="it has fast, base, paper"):
        build(find("isstad"), "slow", {})
    with pytest.raises(SettingError, match="there are: isstad"):
        find("isstat")


def test_too_few_images_are_one_line(configuration: str) -> None:
    if make(configuration).name in ("patchcore", "protoad"):
        assert fitted(configuration, n=1).predict(new_images()).scores.isfinite().all(), "one image is enough"
        return
    with pytest.raises(UnmaskError) as caught:
        fitted(configuration, n=3)
    assert "3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_repaired_image_is_shown_where_there_is_one() -> None:
    for name in ("isstad", "ssm"):
        pixels = fitted(f"{name} pixels").predict(new_images())
        assert pixels.restored is not None
        assert pixels.restored.std() > 0
        assert fitted(f"{name} features").predict(new_images()).restored is None


def test_the_paper_s_scores_follow_from_its_map() -> None:
    """Its product's image score is the mean of the map."""
    said = fitted("isstad pixels", combine="product").predict(new_images())
    torch.testing.assert_close(said.maps.mean((1, 2)), said.scores)
    assert said.maps.min() >= 0
