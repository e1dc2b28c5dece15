"""The cost model: XLA's own count, both memories, and what `facedyn plan` says before anything runs."""

import jax
import jax.numpy as jnp
import pytest
from fake_workdir import small_config

from facedyn.core import cost, unet
from facedyn.core.rank_loss import RankLoss, rank_loss
from facedyn.main import main
from facedyn.stages import plan
from facedyn.stages.fit import batching, closed_form, shared

NET = cost.Network(16, (16, 32))  # of 16 channels: with fewer a CPU counts the columns that it computes twice


def counted(f, *arrays) -> float:
    """FLOP of a call by XLA's analysis of what it compiled."""
    found = jax.jit(f).lower(*arrays).compile().cost_analysis()
    return (found[0] if isinstance(found, list) else found)["flops"]


def test_flop_are_those_that_xla_counts():
    model, batch = unet.UNet(NET.channels), 2
    params = jax.eval_shape(lambda: unet.init(model, jax.random.key(0), NET.size))
    frames = jax.ShapeDtypeStruct((batch, 16, 16, 3), jnp.float32)
    windows, settings = jax.ShapeDtypeStruct((batch, 9, 16, 16, 3), jnp.uint8), RankLoss()

    def step(params, windows):
        return jax.grad(lambda p: rank_loss(model.apply(p, windows[:, 4]), windows, settings).mean())(params)

    cases = {
        cost.encoder(NET): (lambda p, f: unet.encode(model, p, f), frames),
        cost.encoder(NET) + cost.decoder(NET): (model.apply, frames),
        sum(cost.training_step(NET, 4)): (step, windows),
    }
    for expected, (f, given) in cases.items():
        assert expected == pytest.approx(counted(f, params, given) / batch, rel=0.1)


@pytest.mark.parametrize("filter_sites", ["connections", "all", "all,dynamic_representation"])
def test_flop_of_states_are_those_that_xla_counts(filter_sites):
    config = small_config(fit__solver="least_squares", fit__filter_kind="low_rank", fit__filter_sites=filter_sites)
    config.data.image_size, config.data.channels, config.model.channels, config.model.groups = 16, 3, (16, 32), 8
    sites, mesh = closed_form.sites_of(config), jax.sharding.Mesh(jax.devices()[:1], ("person",))
    encode = closed_form.compile_encode(config, sites, mesh)
    params = jax.eval_shape(lambda: unet.init(unet.UNet((16, 32)), jax.random.key(0), 16))
    shapes = [cost.site_shape(NET, site.name) for site in sites]
    basis = tuple(jax.ShapeDtypeStruct((side**2 * c, config.fit.rank), jnp.float32) for side, c in shapes)
    found = encode.lower(params, basis, jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.uint8)).compile().cost_analysis()
    found = (found[0] if isinstance(found, list) else found)["flops"] / 2
    assert cost.states(NET, tuple(site.name for site in sites), config.fit.rank) == pytest.approx(found, rel=0.1)


def test_a_chunk_has_room_on_the_device_and_on_the_host(monkeypatch):
    config = small_config(fit__chunk_size=0, fit__solver="gauss_newton", fit__ridge=20.0)
    fitting, shape = shared.make_fitting(config), batching.Shape(40, 10, 60)
    devices, of_unit = fitting.mesh.size, (fitting.unit_bytes(shape), fitting.host_bytes(shape))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # a CPU's chunks are small for its caches

    def chunk(on_device, on_host):
        monkeypatch.setattr(batching, "device_memory", lambda config: on_device * of_unit[0])
        monkeypatch.setattr(batching, "host_memory", lambda: on_host * devices * of_unit[1])
        return batching.chunk_people(config, fitting, shape, 1000 * devices) / devices

    assert chunk(10, 1000) == chunk(1000, 10) == 10
    assert chunk(0, 1000) == chunk(1000, 0) == 1


def test_what_a_container_is_allowed_counts(monkeypatch, tmp_path):
    (tmp_path / "limit").write_text("1000000\n")
    monkeypatch.setattr(batching, "CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "limit")))
    assert batching.host_memory() == batching.HOST_SHARE * 1e6
    (tmp_path / "limit").write_text("max\n")
    assert batching.host_memory() > 1e8


def test_more_people_larger_faces_and_slower_devices_take_longer():
    def seconds(config=None, people="100", length="30", device="h100"):
        return [stage.seconds for stage in plan.run(config or small_config(), people=people, seconds=length, device=device)]

    prepare, pretrain, fit, traits = seconds()
    more = seconds(people="200")
    assert more[0] == pytest.approx(2 * prepare)
    assert more[2] == pytest.approx(2 * fit)
    assert more[3] > 2 * traits
    large = small_config()
    large.data.image_size *= 2
    assert seconds(large)[1] > 3 * pretrain
    assert seconds(device="l4")[1] > pretrain
    assert seconds(length="60")[2] > fit


def test_the_memory_of_a_fit_does_not_grow_with_the_people():
    few, many = (plan.run(small_config(), people=n, seconds="30", device="h100") for n in ("20000", "80000"))
    for stage in (1, 2):
        assert many[stage].device_bytes == few[stage].device_bytes
        assert many[stage].host_bytes == few[stage].host_bytes


@pytest.mark.parametrize("solver", ["adam", "gauss_newton", "least_squares"])
def test_every_way_to_fit_has_its_price(solver):
    closed = solver == "least_squares"
    kind, blocks = ("low_rank", ("filters", "spectrum")) if closed else ("pointwise", ("filters",))
    config = small_config(fit__solver=solver, fit__filter_kind=kind, fit__blocks=blocks, fit__ridge=20.0)
    fit = plan.run(config, people="10", seconds="20", device="tpu-v5e")[2]
    assert min(fit.seconds, fit.flop, fit.passes, fit.host_bytes, fit.device_bytes) > 0


def test_the_command_needs_no_workdir_and_no_data(root, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = f"--config={root}/configs/default.py"
    assert main(["plan", config, "--people=50", "--seconds=20", "--device=h100"]) == 0
    said = capsys.readouterr().out
    for word in ("prepare", "pretrain", "fit", "traits", "50 people", "20 s", "not measured"):
        assert word in said
    assert not list(tmp_path.iterdir())
    for more, sentence in (
        ([], "add --people="),
        (["--people=50"], "add --seconds="),
        (["--people=many"], "--people=many must be a positive number"),
        (["--people=5", "--seconds=9", "--device=h1000"], "--device=h1000 is not known; it may be cpu, l4"),
    ):
        assert main(["plan", config, *more]) == 2
        assert sentence in capsys.readouterr().err


def test_synthetic_faces_and_a_manifest_say_how_many_they_are(tmp_path):
    config = small_config()
    config.data.dataset = "synthetic"
    config.data.synthetic.people, config.data.synthetic.pretrain_people = 7, 3
    assert plan._material(config, None, None)[::2] == (7, 3)
    manifest = tmp_path / "clips.csv"
    (tmp_path / "a.mp4").touch()
    manifest.write_text("clip_id,person_id,path\n1,ann,a.mp4\n2,ben,a.mp4\n3,ben,a.mp4\n")
    config.data.dataset, config.data.manifest = "manifest", str(manifest)
    assert plan._material(config, None, "30")[:2] == (2, 30)
