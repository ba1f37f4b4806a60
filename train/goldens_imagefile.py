"""Image files with generation parameters as other programs write them, for imagefile's tests.

Pillow writes the PNG, JPEG and WebP containers; piexif writes the EXIF blocks, as AUTOMATIC1111's interface has it do.
Usage: python train/goldens_imagefile.py   (needs Pillow and piexif)
"""

import pathlib

import piexif
import piexif.helper
from PIL import Image, PngImagePlugin

OUT = pathlib.Path(__file__).parent.parent / "imagefile" / "testdata"

LATIN = "caf\u00e9 au lait\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 42, Size: 8x6"
WIDE = LATIN.replace("caf\u00e9 au lait", "\u732b \U0001f600")


def picture():
    image = Image.new("RGB", (8, 6))
    image.putdata([(x * 30, y * 40, (x * y) % 256) for y in range(6) for x in range(8)])
    return image


def png(name, text, zip=False, kind=None):
    info = PngImagePlugin.PngInfo()
    if kind == "itxt":
        info.add_itxt("parameters", text, zip=zip)
    else:
        info.add_text("parameters", text, zip=zip)
    picture().save(OUT / name, pnginfo=info)


def exif(text):
    comment = piexif.helper.UserComment.dump(text, encoding="unicode")
    return piexif.dump({"Exif": {piexif.ExifIFD.UserComment: comment}})


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    png("text.png", LATIN)
    png("wide.png", WIDE)
    png("ztxt.png", LATIN, zip=True)
    png("itxt-zip.png", WIDE, zip=True, kind="itxt")
    picture().save(OUT / "plain.png")

    # AUTOMATIC1111: save, then insert the EXIF block into the file.
    for name, options in [("piexif.jpg", {"quality": 80}), ("piexif.webp", {"lossless": True})]:
        picture().save(OUT / name, **options)
        piexif.insert(exif(WIDE), str(OUT / name))

    # Forge and others: Pillow takes the block.
    picture().save(OUT / "pillow.webp", quality=80, exif=exif(WIDE))

    # Fooocus: Pillow's own EXIF, with the comment in the first directory, as text.
    block = picture().getexif()
    block[0x9286] = LATIN.replace("\u00e9", "e")  # Pillow writes such text as ASCII
    block[0x0131] = "Fooocus v2.5.5"
    block[0x927C] = "a1111"
    picture().save(OUT / "fooocus.jpg", quality=80, exif=block)

    # Little-endian EXIF with little-endian UTF-16, as some cameras and editors write it.
    block = Image.Exif()
    block.endian = "<"
    block.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + WIDE.encode("utf-16-le")
    picture().save(OUT / "little.jpg", quality=80, exif=block)

    lossy()


def lossy():
    """Lossy WebP files, and what libwebp makes of them."""
    for name, size, alpha in (("lossy", (33, 17), None), ("lossy-alpha", (20, 24), 90), ("lossy-1x3", (1, 3), None)):
        img = Image.new("RGB", size, "white")
        for x in range(size[0]):
            for y in range(4, size[1]):
                img.putpixel((x, y), (7 * x % 256, 11 * y % 256, 255 if x < 9 else 30))
        if alpha:
            img.putalpha(Image.new("L", size, 255))
            for x in range(8):
                img.putpixel((x, 0), (255, 255, 255, alpha))
        img.save(OUT / f"{name}.webp", quality=90)
        Image.open(OUT / f"{name}.webp").save(OUT / f"{name}.png")


if __name__ == "__main__":
    main()
