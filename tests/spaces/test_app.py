"""The running Space as programs see it: the endpoint, the MCP tool, files that stay where they are, 8 visitors."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.spaces.conftest import ANSWER_SECONDS, SPACE, start, stop
from tests.spaces.hostile import write_hostile

gradio_client = pytest.importorskip("gradio_client")
SECRET = "the secret of this test"


@pytest.fixture(scope="module")
def client(space):
    return connected(space)


def connected(running):
    return gradio_client.Client(running.url, verbose=False, httpx_kwargs={"timeout": ANSWER_SECONDS})


def edit(client, subject, prompt="a mug", scene=None, mask=None, scale=1.0, steps=2, seed=0):
    """The picture that comes back."""
    sent = [path and gradio_client.handle_file(str(path)) for path in (subject, scene, mask)]
    made = client.predict(sent[0], prompt, sent[1], sent[2], scale, steps, seed, api_name="/edit")
    return np.array(Image.open(made))


def refused(client, *arguments, **options):
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        edit(client, *arguments, **options)
    return str(caught.value)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as err:
        return err.code, err.read(), err.headers


def test_it_draws_and_edits_for_programs(client, photo, tmp_path):
    assert edit(client, photo).ndim == 3
    Image.new("RGB", (90, 60), "teal").save(tmp_path / "scene.png")
    lower = Image.linear_gradient("L").point(lambda value: 255 * (value > 128)).resize((180, 120), 0)
    lower.save(tmp_path / "mask.png")
    picture = edit(client, photo, scene=tmp_path / "scene.png", mask=tmp_path / "mask.png")
    assert picture.shape == (60, 90, 3) and (picture[:25] == (0, 128, 128)).all()


def test_nothing_but_the_endpoint_is_public(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/edit"}


@pytest.mark.parametrize(("options", "says"), [
    ({"prompt": ""}, "Write a prompt"), ({"prompt": "a" * 10_000}, "10,000 characters"),
    ({"steps": 10_000}, "Steps must be"), ({"seed": 1e30}, "Seed must be"), ({"steps": 1.5}, "whole number"),
    ({"scale": -1}, "Subject strength must be"),
])  # fmt: skip
def test_bad_wishes_are_refused_in_words(client, photo, options, says):
    assert says in refused(client, photo, **options)


def test_no_photo_no_mask_and_an_empty_mask(client, photo, tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    assert "Add a photo" in refused(client, None)
    assert "Paint on the scene" in refused(client, photo, scene=photo)
    assert "black all over" in refused(client, photo, scene=photo, mask=tmp_path / "black.png")


def test_hostile_files_are_refused_in_words_and_the_page_stays(client, photo, tmp_path, space):
    for kind, path in write_hostile(tmp_path).items():
        said = refused(client, path)
        assert "Photo 1" in said and str(tmp_path) not in said, kind
    (tmp_path / "huge.png").write_bytes(bytes(65 * 2**20))
    with pytest.raises(Exception, match="(?i)size|large|413"):
        edit(client, tmp_path / "huge.png")
    Image.linear_gradient("L").resize((5200, 5100)).save(tmp_path / "large.jpg")
    assert edit(client, tmp_path / "large.jpg", prompt="<script>alert(1)</script>").any()
    assert space.process.poll() is None and "Traceback" not in space.log.read_text()


def test_the_scene_may_not_be_a_bomb_either(client, photo, tmp_path):
    assert "too large" in refused(client, photo, scene=write_hostile(tmp_path)["bomb"])


@pytest.mark.parametrize("path", [
    "/etc/passwd", "{tmp}/secret.txt", "{space}/app.py", "{space}/../../README.md",
    "{model}/model_index.json", "{dataset}/README.md", "../../../../../../etc/passwd", "/proc/self/environ",
    "file:///etc/passwd", "http://127.0.0.1:1/"])
def test_files_stay_where_they_are(space, client, tmp_path, model, dataset, path):
    (tmp_path / "secret.txt").write_text(SECRET)
    path = path.format(tmp=tmp_path, space=SPACE, model=model, dataset=dataset)
    for asked in (path, urllib.parse.quote(path, safe="")):
        status, body, _ = get(f"{space.url}/gradio_api/file={asked}")
        assert status >= 400 and SECRET.encode() not in body and b"root:" not in body
    smuggled = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [smuggled, "a mug", None, None, 1, 1, 0]}).encode()
    request = urllib.request.Request(f"{space.url}/gradio_api/call/edit", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        event = json.loads(answer.read())["event_id"]
    assert b"event: error" in get(f"{space.url}/gradio_api/call/edit/{event}")[1]


@pytest.mark.parametrize("meta", [{}, {"meta": {"_type": "gradio.FileData"}}], ids=["bare", "with meta"])
@pytest.mark.parametrize("name", ["edit", "cleaned", "compared", "draw_for_page"])
def test_no_door_opens_a_picture_that_is_no_upload(space, photo, tmp_path, name, meta):
    mine, uploaded = tmp_path / "private.png", {"path": sent_up(space, photo), **meta}
    Image.new("RGB", (64, 48), (200, 10, 10)).save(mine)
    for file, fails in ((uploaded, False), ({"path": str(mine), **meta}, True)):
        photos, numbers = [{"image": file, "caption": None}], [1, 1, 1, 0, False]
        given = {"edit": [file, "a mug", None, None, 1, 1, 0], "cleaned": [photos], "compared": [[file, file], photos],
                 "draw_for_page": [photos, "a mug", None, "Where I paint", *numbers]}[name]
        answer = queued(space, name, given)
        assert ('"path": "' in answer or '"path":"' in answer) != fails, answer


def sent_up(space, file):
    """The path of an upload."""
    body = (b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.png\"\r\n\r\n%s\r\n--x--\r\n"
            % file.read_bytes())
    request = urllib.request.Request(f"{space.url}/gradio_api/upload", body,
                                     {"Content-Type": "multipart/form-data; boundary=x"})
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return json.loads(answer.read())[0]


def queued(space, name, data):
    """What a page gets that calls a function by its number, as any page can."""
    config = json.loads(get(f"{space.url}/config")[1])
    (number,) = {part["id"] for part in config["dependencies"] if part["api_name"] == name}
    session = uuid.uuid4().hex
    event = {"index": 0, "value": None} if name == "compared" else None
    body = json.dumps({"data": data, "fn_index": number, "event_data": event, "session_hash": session}).encode()
    request = urllib.request.Request(f"{space.url}/gradio_api/queue/join", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
    with urllib.request.urlopen(f"{space.url}/gradio_api/queue/data?session_hash={session}",
                                timeout=ANSWER_SECONDS) as lines:
        for line in lines:
            if b"process_completed" in line:
                return line.decode()
    raise AssertionError("no answer")


def test_a_mask_of_another_shape_is_told(client, photo, tmp_path):
    scene, mask = tmp_path / "scene.png", tmp_path / "mask.png"
    Image.new("RGB", (400, 100), (90, 90, 90)).save(scene)
    Image.new("L", (100, 400), 255).save(mask)
    assert "The mask has another shape than the scene" in refused(client, photo, scene=scene, mask=mask)


def test_uploaded_markup_is_never_shown_as_a_page(space, tmp_path):
    hostile = write_hostile(tmp_path)
    for kind, name in (("html", "page.html"), ("svg", "picture.svg")):
        body = (b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"%s\"\r\n\r\n%s\r\n--x--\r\n"
                % (name.encode(), hostile[kind].read_bytes()))
        request = urllib.request.Request(f"{space.url}/gradio_api/upload", body,
                                         {"Content-Type": "multipart/form-data; boundary=x"})
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            (path,) = json.loads(answer.read())
        _, _, headers = get(f"{space.url}/gradio_api/file={path}")
        assert headers["content-disposition"].startswith("attachment")


def test_the_tool_is_offered_and_works_over_mcp(space, photo):
    mcp = pytest.importorskip("mcp")
    import anyio
    from mcp.client.streamable_http import streamable_http_client

    async def talk():
        async with (streamable_http_client(f"{space.url}/gradio_api/mcp/") as (read, write, _),
                    mcp.ClientSession(read, write) as session):
            await session.initialize()
            (tool,) = (await session.list_tools()).tools
            data = "data:image/png;base64," + base64.b64encode(photo.read_bytes()).decode()
            given = {"subject": data, "prompt": "a mug", "steps": 2, "seed": 3}
            return tool, await session.call_tool(tool.name, given)

    tool, result = anyio.run(talk)
    assert tool.name == "edit_picture" and "a photo of the thing" in json.dumps(tool.inputSchema)
    assert not result.isError and any(part.type == "image" for part in result.content), result


def test_visitors_at_once_get_their_own_pictures(space, photo):
    seeds = list(range(6))
    clients = [connected(space) for _ in seeds]
    alone = {seed: edit(clients[0], photo, seed=seed) for seed in seeds}
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = list(pool.map(lambda seed: edit(clients[seed], photo, seed=seed), seeds))
    assert all((together[seed] == alone[seed]).all() for seed in seeds)
    assert len({picture.tobytes() for picture in together}) == len(seeds)


def test_without_a_model_and_a_dataset_the_page_says_so(photo, tmp_path):
    running = start(tmp_path / "no-model", tmp_path / "no-dataset", tmp_path)
    try:
        status, body, _ = get(running.url)
        assert status == 200 and b"No model could be loaded" in body
        client = connected(running)
        assert "No model could be loaded" in refused(client, photo)
    finally:
        stop(running)


def test_the_folder_is_whole_and_says_what_the_hub_needs():
    import yaml

    _, head, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(head)
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert (told["sdk"], told["app_file"], told["license"]) == ("gradio", "app.py", "apache-2.0")
    assert told["sdk_version"] == pinned["gradio"] and len(told["short_description"]) <= 60
    assert not list(SPACE.rglob("__init__.py")) and sum(path.stat().st_size for path in SPACE.rglob("*.png")) < 500_000


def test_the_examples_are_what_their_command_writes(tmp_path):
    from toffee_hf.publishing.space_examples import write_examples

    for path in write_examples(tmp_path):
        shipped = SPACE / "examples" / path.name
        if path.suffix == ".json":
            assert path.read_text() == shipped.read_text()
        else:
            made, kept = (np.array(Image.open(file), int) for file in (path, shipped))
            assert np.abs(made - kept).mean() < 1
