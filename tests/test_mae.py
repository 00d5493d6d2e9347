"""The masked autoencoder against naive versions of its parts, and against files in the public checkpoints' layout."""

from __future__ import annotations

import argparse
import math
import pickle
from pathlib import Path

import pytest
import torch

from unmask.detectors.isstad.mae import SIZES, MaskedAutoencoder
from unmask.detectors.isstad.mae_weights import LoadReport, load_mae, load_timm
from unmask.detectors.isstad.transformer import Block, sincos_positions
from unmask.errors import SettingError, WeightsError
from unmask.training.masking import random_hidden

Tensors = dict[str, torch.Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nano(*, image_size: int = 32, patch: int = 8, decoder_depth: int = 2, seed: int = 0) -> MaskedAutoencoder:
    torch.manual_seed(seed)
    size = SIZES["vit_nano"]._replace(patch=patch)
    return MaskedAutoencoder(
        **size._asdict(), image_size=image_size, decoder_dim=32, decoder_depth=decoder_depth, decoder_heads=4
    ).eval()


def images(b: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(b, 3, size, size, generator=seeded(7))


# --- parts ---


def test_block_is_pre_norm_attention_and_mlp_written_out() -> None:
    torch.manual_seed(0)
    dim, heads, n = 24, 3, 5
    block = Block(dim, heads, mlp_ratio=2.0).double()
    for parameter in block.parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64)
    w = dict(block.named_parameters())
    x = torch.randn(n, dim, dtype=torch.float64)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(1, keepdim=True)
        return (
            centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    qkv, width, mixed = linear(norm(x, "norm1"), "attn.qkv"), dim // heads, torch.zeros_like(x)
    for h in range(heads):
        q, k, v = (qkv[:, part * dim + h * width :][:, :width] for part in range(3))
        for i in range(n):
            weights = torch.stack([(q[i] @ k[j] / math.sqrt(width)).exp() for j in range(n)])
            mixed[i, h * width : (h + 1) * width] = (weights / weights.sum()) @ v
    after = x + linear(mixed, "attn.proj")
    inner = linear(norm(after, "norm2"), "mlp.fc1")
    expected = after + linear(0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))), "mlp.fc2")
    torch.testing.assert_close(block(x[None])[0], expected)
    assert w["mlp.fc1.weight"].shape == (48, 24)


def test_heads_must_divide_the_dimension() -> None:
    with pytest.raises(SettingError, match="5 heads"):
        Block(64, 5)


@pytest.mark.parametrize(("dim", "grid"), [(8, 3), (64, 5), (768, 14)])
def test_positions_equal_a_loop(dim: int, grid: int) -> None:
    table = sincos_positions(dim, grid)
    quarter = dim // 4
    for y in range(grid):
        for x in range(grid):
            expected = []
            for place in (x, y):
                angles = [place / 10000 ** (i / quarter) for i in range(quarter)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(table[y * grid + x], torch.tensor(expected), atol=1e-6, rtol=0)


def test_positions_need_a_multiple_of_four() -> None:
    with pytest.raises(SettingError, match="multiple of 4, got 6"):
        sincos_positions(6, 2)


def test_patches_go_there_and_back_and_lie_in_public_order() -> None:
    model, batch = nano(), images()
    patches = model.patchify(batch)
    assert patches.shape == (2, 16, 8 * 8 * 3)
    assert torch.equal(model.unpatchify(patches), batch)
    row, column, y, x, channel = 2, 1, 3, 5, 2
    assert patches[1, row * 4 + column, (y * 8 + x) * 3 + channel] == batch[1, channel, row * 8 + y, column * 8 + x]


# --- the model ---


def test_encoder_sees_nothing_of_hidden_patches() -> None:
    model, batch = nano(), images()
    hidden = random_hidden(2, 16, 0.75, seeded())
    other = model.unpatchify(torch.where(hidden[..., None], torch.randn(2, 16, 192), model.patchify(batch)))
    latents = model.encode(batch, hidden)
    assert latents.shape == (2, 1 + 4, 64)
    assert torch.equal(latents, model.encode(other, hidden))
    assert not torch.allclose(latents, model.encode(1 - batch, hidden))


def test_nothing_hidden_equals_no_mask() -> None:
    model, batch = nano(), images()
    none = torch.zeros(2, 16, dtype=torch.bool)
    latents = model.encode(batch)
    torch.testing.assert_close(model.encode(batch, none), latents)
    torch.testing.assert_close(model.decode(latents, none), model.decode(latents))
    assert model.decode(latents).shape == (2, 16, 192)


def test_decoder_puts_latents_and_mask_tokens_in_their_places() -> None:
    """Without blocks, a prediction depends on its own token and position alone."""
    model = nano(decoder_depth=0)
    hidden = random_hidden(2, 16, 0.5, seeded())
    latents = model.encode(images(), hidden)
    predicted = model.decode(latents, hidden)
    tokens, positions = model.decoder_embed(latents), model.decoder_pos_embed[0, 1:]
    for i in range(2):
        visible = iter(tokens[i, 1:])
        for patch in range(16):
            token = model.mask_token[0, 0] if hidden[i, patch] else next(visible)
            expected = model.decoder_pred(model.decoder_norm(token + positions[patch]))
            torch.testing.assert_close(predicted[i, patch], expected)


def test_everything_may_be_hidden() -> None:
    model, hidden = nano(), torch.ones(2, 16, dtype=torch.bool)
    assert model.encode(images(), hidden).shape == (2, 1, 64)
    assert torch.isfinite(model(images(), hidden))


def test_loss_is_the_mean_error_of_hidden_patches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = nano(), images()
    hidden = random_hidden(2, 16, 0.75, seeded())
    predicted, wanted = model.decode(model.encode(batch, hidden), hidden), model.patchify(batch)
    errors = [
        (predicted[i, patch] - wanted[i, patch]).square().mean().item()
        for i in range(2)
        for patch in range(16)
        if hidden[i, patch]
    ]
    assert model(batch, hidden).item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    spoilt = torch.where(hidden[..., None], predicted, predicted + 100)
    monkeypatch.setattr(model, "decode", lambda latents, hidden: spoilt)
    assert model(batch, hidden).item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_gradients_reach_every_parameter() -> None:
    model = nano()
    model(images(), random_hidden(2, 16, 0.5, seeded())).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    assert not any("pos_embed" in name for name, _ in model.named_parameters())


def test_a_few_steps_learn() -> None:
    model, batch = nano(), images(4)
    hidden = random_hidden(4, 16, 0.5, seeded())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        losses.append(model(batch, hidden))
        losses[-1].backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < 0.5 * losses[0]


def test_unequal_or_empty_masks_are_refused() -> None:
    model, hidden = nano(), torch.zeros(2, 16, dtype=torch.bool)
    with pytest.raises(SettingError, match="nothing to learn"):
        model(images(), hidden)
    hidden[0, :3] = hidden[1, :4] = True
    with pytest.raises(SettingError, match="equally many"):
        model.encode(images(), hidden)


def test_patches_must_fit() -> None:
    with pytest.raises(SettingError, match="224 pixels cannot be cut into patches of 15"):
        MaskedAutoencoder(dim=64, depth=1, heads=2, patch=15)


# --- public checkpoints ---


def public_shapes(
    dim: int, depth: int, decoder_dim: int, decoder_depth: int, grid: int, patch: int
) -> dict[str, tuple]:
    """Names and shapes of `mae_visualize_vit_*.pth`, written down by themselves."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, grid * grid + 1, dim),
        "mask_token": (1, 1, decoder_dim),
        "decoder_pos_embed": (1, grid * grid + 1, decoder_dim),
        "patch_embed.proj.weight": (dim, 3, patch, patch),
        "patch_embed.proj.bias": (dim,),
    }
    layers = {"norm": (dim, None), "decoder_norm": (decoder_dim, None), "decoder_embed": (decoder_dim, dim)}
    layers["decoder_pred"] = (patch * patch * 3, decoder_dim)
    for blocks, d, count in (("blocks", dim, depth), ("decoder_blocks", decoder_dim, decoder_depth)):
        for i in range(count):
            layers |= {f"{blocks}.{i}.{norm}": (d, None) for norm in ("norm1", "norm2")}
            layers |= {f"{blocks}.{i}.attn.qkv": (3 * d, d), f"{blocks}.{i}.attn.proj": (d, d)}
            layers |= {f"{blocks}.{i}.mlp.fc1": (4 * d, d), f"{blocks}.{i}.mlp.fc2": (d, 4 * d)}
    for name, (out, into) in layers.items():
        shapes[f"{name}.weight"] = (out,) if into is None else (out, into)
        shapes[f"{name}.bias"] = (out,)
    return shapes


def public_tensors(**sizes: int) -> Tensors:
    """Distinct random values that share one storage, so that the file of a ViT-B stays small."""
    shapes = public_shapes(**sizes)
    values = torch.randn(max(math.prod(shape) for shape in shapes.values()) + len(shapes), generator=seeded(3))
    return {name: values[i : i + math.prod(shape)].view(shape) for i, (name, shape) in enumerate(shapes.items())}


NANO = {"dim": 64, "depth": 2, "decoder_dim": 32, "decoder_depth": 2, "grid": 4, "patch": 8}


def nano_tensors(**changed: int) -> Tensors:
    tensors = public_tensors(**(NANO | changed))
    grid = (NANO | changed)["grid"]
    for name, dim in (("pos_embed", 64), ("decoder_pos_embed", 32)):
        table = torch.zeros(1, grid * grid + 1, dim)
        table[0, 1:] = sincos_positions(dim, grid)
        tensors[name] = table
    return tensors


def encoder_only(tensors: Tensors) -> Tensors:
    return {name: t for name, t in tensors.items() if not name.startswith("decoder") and name != "mask_token"}


def load(tensors: object, folder: Path, model: MaskedAutoencoder) -> LoadReport:
    path = folder / "checkpoint.pth"
    torch.save(tensors, path)
    return load_mae(model, path)


def test_a_public_vit_base_lands_tensor_by_tensor(tmp_path: Path) -> None:
    tensors = public_tensors(dim=768, depth=12, decoder_dim=512, decoder_depth=8, grid=14, patch=16)
    model = MaskedAutoencoder(**SIZES["vit_base"]._asdict())
    report = load({"model": tensors}, tmp_path, model)
    own = model.state_dict()
    assert set(own) == set(tensors) == set(report.loaded)
    assert (report.afresh, report.unused, report.recomputed) == ((), (), ())
    for name, tensor in tensors.items():
        assert torch.equal(own[name], tensor), name
    decoder = {name for name in own if name.startswith("decoder") or name == "mask_token"}
    encoder_size = sum(own[name].numel() for name in own.keys() - decoder)
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        public = timm.create_model("vit_base_patch16_224", num_classes=0)
    assert encoder_size == sum(p.numel() for p in public.parameters()) == 85_798_656


def test_encoder_computes_what_timm_computes() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    public = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=0
    ).eval()
    model = nano()
    result = model.load_state_dict(public.state_dict(), strict=False)
    assert result.unexpected_keys == []
    torch.testing.assert_close(model.encode(images()), public.forward_features(images()))


def test_a_safetensors_file_lands(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors, model = nano_tensors(), nano()
    save_file({name: t.clone() for name, t in tensors.items()}, tmp_path / "mae.safetensors")
    report = load_mae(model, tmp_path / "mae.safetensors")
    assert len(report.loaded) == len(tensors)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name


def test_a_deeper_decoder_lands_as_far_as_ours_goes(tmp_path: Path) -> None:
    tensors, model = nano_tensors(decoder_depth=3), nano()
    report = load(tensors, tmp_path, model)
    assert set(report.unused) == {name for name in tensors if name.startswith("decoder_blocks.2.")}
    assert len(report.unused) == 12
    assert report.afresh == ()
    assert "not used: decoder_blocks.2." in str(report)
    assert all(torch.equal(t, tensors[name]) for name, t in model.state_dict().items())


def test_a_shallower_decoder_leaves_our_last_blocks_afresh(tmp_path: Path) -> None:
    tensors, model = nano_tensors(decoder_depth=1), nano()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    report = load(tensors, tmp_path, model)
    assert set(report.afresh) == {name for name in before if name.startswith("decoder_blocks.1.")}
    assert all(torch.equal(t, tensors.get(name, before[name])) for name, t in model.state_dict().items())


@pytest.mark.parametrize("head", [False, True])
def test_an_encoder_alone_lands_and_the_report_says_so(head: bool, tmp_path: Path) -> None:
    tensors, model = encoder_only(nano_tensors()), nano()
    extra = {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)} if head else {}
    report = load(tensors | extra, tmp_path, model)
    assert set(report.loaded) == set(tensors)
    assert report.unused == tuple(extra)
    assert "decoder_pos_embed" not in report.afresh
    assert "mask_token" in report.afresh
    assert "no decoder: it starts at random" in str(report)
    assert all(torch.equal(t, tensors[name]) for name, t in model.state_dict().items() if name in tensors)


def test_a_fine_tuned_classifier_lacks_the_final_norm(tmp_path: Path) -> None:
    tensors, model = encoder_only(nano_tensors()), nano()
    for part in ("weight", "bias"):
        tensors[f"fc_norm.{part}"] = tensors.pop(f"norm.{part}")
    report = load(tensors, tmp_path, model)
    assert report.unused == ("fc_norm.weight", "fc_norm.bias")
    assert {"norm.weight", "norm.bias"} < set(report.afresh)
    assert "no final norm" in str(report)
    assert torch.equal(model.norm.weight, torch.ones(64))


def test_positions_of_another_grid_are_recomputed(tmp_path: Path) -> None:
    model = nano(image_size=48)
    report = load(nano_tensors(), tmp_path, model)
    assert report.recomputed == ("pos_embed", "decoder_pos_embed")
    assert torch.equal(model.get_buffer("pos_embed")[0, 1:], sincos_positions(64, 6))
    assert "recomputed for this grid: pos_embed" in str(report)


def test_learned_positions_of_another_grid_are_refused(tmp_path: Path) -> None:
    tensors = nano_tensors()
    tensors["pos_embed"] = torch.randn(tensors["pos_embed"].shape, generator=seeded())
    with pytest.raises(WeightsError, match=r"pos_embed is \(1, 17, 64\), not \(1, 37, 64\)"):
        load(tensors, tmp_path, nano(image_size=48))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "norm.bias is missing"),
        ("missing in decoder", "decoder_pred.weight is missing"),
        ("half a block", r"decoder_blocks.1.mlp.fc1.bias is missing"),
        ("shape", r"cls_token is \(1, 1, 32\), not \(1, 1, 64\)"),
        ("transposed", r"blocks.0.mlp.fc1.weight is \(64, 256\), not \(256, 64\)"),
        ("deeper", "blocks.2.norm1.weight is unknown"),
        ("layer scale", "blocks.0.ls1.gamma is unknown"),
        ("foreign", "cls_token is missing, pos_embed is missing, .* and [0-9]+ more"),
    ],
)
def test_another_layout_is_one_line_and_changes_nothing(fault: str, words: str, tmp_path: Path) -> None:
    tensors, model = nano_tensors(depth=3 if fault == "deeper" else 2), nano()
    if fault.startswith(("missing", "half")):
        del tensors[words.split()[0]]
    elif fault == "shape":
        tensors["cls_token"] = torch.zeros(1, 1, 32)
    elif fault == "transposed":
        tensors["blocks.0.mlp.fc1.weight"] = tensors["blocks.0.mlp.fc1.weight"].T
    elif fault == "layer scale":
        tensors["blocks.0.ls1.gamma"] = torch.ones(64)
    elif fault == "foreign":
        tensors = {"conv1.weight": torch.zeros(3)}
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(WeightsError, match=words) as error:
        load(tensors, tmp_path, model)
    assert "\n" not in str(error.value)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_a_training_checkpoint_with_its_command_line_is_read(tmp_path: Path) -> None:
    content = {"model": nano_tensors(), "epoch": 3, "args": argparse.Namespace(lr=1e-3, data_path="x")}
    assert load(content, tmp_path, nano()).afresh == ()
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["top", "beside", "in the command line", "plain pickle"])
def test_a_malicious_pickle_is_refused_and_does_not_run(place: str, tmp_path: Path) -> None:
    victim, path = tmp_path / "executed", tmp_path / "checkpoint.pth"
    bad = Malicious(victim)
    content = {
        "top": bad,
        "beside": {"model": nano_tensors(), "extra": bad},
        "in the command line": {"model": nano_tensors(), "args": argparse.Namespace(lr=bad)},
        "plain pickle": {"model": bad},
    }[place]
    if place == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match="plain tensors") as error:
        load_mae(nano(), path)
    assert "\n" not in str(error.value)
    assert not victim.exists()
    if place == "top":  # the trap is real: an unguarded reader falls into it
        torch.load(path, weights_only=False)
        assert victim.exists()


@pytest.mark.parametrize(("name", "content"), [("a.pth", b"no"), ("a.safetensors", b"no"), ("a.pt", b"")])
def test_a_damaged_file_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read") as error:
        load_mae(nano(), tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_mae(nano(), tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match="no table of named tensors"):
        load([1, 2], tmp_path, nano())
    with pytest.raises(WeightsError, match="no table of named tensors"):
        load({"model": {"cls_token": 3}}, tmp_path, nano())


def test_timm_weights_land(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    public = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10
    )
    asked = []
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: asked.append((name, pretrained)) or public)
    model = nano()
    report = load_timm(model, "vit_nano.mae")
    assert asked == [("vit_nano.mae", True)]
    assert report.unused == ("head.weight", "head.bias")
    assert torch.equal(model.blocks[1].attn.qkv.weight, public.blocks[1].attn.qkv.weight)
    assert "no decoder" in str(report)


def test_timm_without_a_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"vit_base_patch16_224.mae cannot be had \(no route\)") as error:
        load_timm(nano(), "vit_base_patch16_224.mae")
    assert "\n" not in str(error.value)
