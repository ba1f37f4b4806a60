"""Uses a server with the Python packages openai and webuiapi: python clients.py URL KEY USER PASSWORD."""

import base64
import io
import sys
import threading

import webuiapi
from openai import BadRequestError, OpenAI
from PIL import Image

url, key, user, password = sys.argv[1:5]
host, port = url.removeprefix("http://").split(":")


def picture(b64):
    image = Image.open(io.BytesIO(base64.b64decode(b64)))
    image.load()
    return image


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    buffer.seek(0)
    buffer.name = "picture.png"
    return buffer


red = Image.new("RGBA", (128, 128), (200, 30, 30, 255))
holed = red.copy()
holed.paste((0, 0, 0, 0), (64, 0, 128, 128))

# openai
client = OpenAI(base_url=url + "/v1", api_key=key)
assert [m.id for m in client.models.list()] == ["default"]
answer = client.images.generate(
    model="gpt-image-1", prompt="a red apple", n=2, size="128x128", output_format="jpeg", output_compression=70,
    extra_body={"seed": 7, "num_inference_steps": 4, "guidance_scale": 3, "negative_prompt": "blurry"},
)
assert len(answer.data) == 2 and answer.usage.total_tokens > 0, answer
assert picture(answer.data[0].b64_json).format == "JPEG"
assert answer.data[1].seed == 8 and answer.data[1].recipe["steps"] == 4, answer.data[1]
answer = client.images.generate(model="dall-e-3", prompt="a pear", response_format="url", quality="hd", style="vivid", extra_body={"steps": 2})
assert answer.data[0].url.startswith(url), answer
kinds = []
for event in client.images.generate(model="gpt-image-1", prompt="a pear", stream=True, partial_images=2, extra_body={"steps": 12}):
    kinds.append(event.type)
    picture(event.b64_json)
assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"], kinds
answer = client.images.edit(model="gpt-image-1", image=[png(red)], mask=png(holed), prompt="a green pear", size="auto", extra_body={"seed": 3, "steps": 4})
out = picture(answer.data[0].b64_json).convert("RGB")
assert out.getpixel((10, 64)) == (200, 30, 30) and out.getpixel((120, 64)) != (200, 30, 30)
kinds = [e.type for e in client.images.edit(model="gpt-image-1", image=png(red), prompt="a pear", stream=True, partial_images=1, extra_body={"steps": 8})]
assert kinds == ["image_edit.partial_image", "image_edit.completed"], kinds
assert len(client.images.create_variation(image=png(red), n=2).data) == 2
try:
    client.images.generate(model="gpt-image-1", prompt="x", size="7x7")
    raise AssertionError("a size that cannot be is taken")
except BadRequestError as e:
    assert "pixels" in e.message, e

# webuiapi
api = webuiapi.WebUIApi(host=host, port=int(port), username=user, password=password)
for sampler in ["Euler a", "DPM++ 2M", "DDIM", "UniPC", "LCM"]:
    result = api.txt2img(prompt="a red apple", negative_prompt="blurry", seed=5, steps=4, cfg_scale=3, width=128, height=128, sampler_name=sampler)
    assert result.info["seed"] == 5 and result.info["sampler_name"] == sampler and result.image.size == (128, 128), result.info
    assert result.image.info["parameters"] == result.info["infotexts"][0]
result = api.txt2img(prompt="a red apple", steps=4, width=64, height=64, enable_hr=True, hr_scale=2, hr_upscaler=webuiapi.HiResUpscaler.Latent, denoising_strength=0.6, tiling=True)
assert result.image.size == (128, 128), result.image.size
result = api.img2img(images=[red.convert("RGB")], prompt="a pear", denoising_strength=0.6, steps=6, width=128, height=128, seed=5)
assert result.image.size == (128, 128)
mask = Image.new("L", (128, 128), 0)
mask.paste(255, (64, 0, 128, 128))
result = api.img2img(images=[red.convert("RGB")], mask_image=mask, mask_blur=0, inpaint_full_res=False, inpainting_fill=1, prompt="a pear", steps=6, width=128, height=128)
assert result.image.convert("RGB").getpixel((10, 64)) == (200, 30, 30)
assert api.extra_single_image(image=red.convert("RGB"), upscaler_1="Lanczos", upscaling_resize=1.5).image.size == (192, 192)
assert len(api.extra_batch_images(images=[red.convert("RGB")] * 2, upscaler_1="Nearest", upscaling_resize=2).images) == 2
info = api.png_info(result.image)
for f in ["get_options", "get_cmd_flags", "get_progress", "get_samplers", "get_sd_vae", "get_upscalers", "get_latent_upscale_modes", "get_loras", "get_sd_models",
          "get_hypernetworks", "get_face_restorers", "get_realesrgan_models", "get_prompt_styles", "refresh_checkpoints", "get_scripts", "get_embeddings", "get_memory", "get_schedulers",
          "util_get_model_names", "util_get_sampler_names", "util_get_scheduler_names", "util_get_current_model"]:
    getattr(api, f)()
api.util_set_model("default")
assert api.util_get_current_model() == "default"
api.util_wait_for_ready(check_interval=0.1)

done = []
worker = threading.Thread(target=lambda: done.append(api.txt2img(prompt="a red apple", steps=250, n_iter=3, width=128, height=128, cfg_scale=3, sampler_name="Euler a")))
worker.start()
while api.get_progress()["state"]["sampling_step"] == 0:
    pass
api.interrupt()
worker.join(5)
assert not worker.is_alive() and len(done[0].images) < 3, done
api.util_wait_for_ready(check_interval=0.1)
print("ok")
