/** Images of outputs, in the size their author or their file says. */
import { about, asText, make, type MimeBundle, type Renderer } from "./types";

const SIDE = /^(\d{1,6})(?:\.\d*)?(?:px)?$/;

function side(value: unknown): number {
  return typeof value === "number" || typeof value === "string" ? Number(SIDE.exec(String(value))?.[1] ?? 0) : 0;
}

/** What an image shows in words: those of the author, or a text beside it that is not just the name of an object. */
function alternative(bundle: MimeBundle, mime: string): string {
  const texts: unknown[] = [about(bundle, mime)["alt"], bundle.metadata["alt"]];
  const plain = asText(bundle.data["text/plain"]);
  if (plain.length < 500 && !/^\s*<[\s\S]*>\s*$/.test(plain)) texts.push(plain);
  return texts.find((text) => typeof text === "string" && text !== "") as string | undefined ?? "";
}

/** Any image type; an SVG image too is shown as an image, so that its scripts, styles and ids stay inside. */
export const image: Renderer = async (element, bundle, mime) => {
  const img = make("img");
  const text = asText(bundle.data[mime]);
  if (mime === "image/svg+xml") {
    const svg = text.replace(/<svg\b(?![^>]*xmlns=)/i, '<svg xmlns="http://www.w3.org/2000/svg"');
    img.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  } else {
    img.src = `data:${mime};base64,${text.replace(/\s+/g, "")}`;
  }
  const own = about(bundle, mime);
  const background: unknown = own["needs_background"] || bundle.metadata["needs_background"];
  if (background === "light" || background === "dark") img.className = `needs-${background}-background`;
  img.alt = alternative(bundle, mime);
  await img.decode(); // before it takes the place of another; one that is broken gives way to the next type
  let [width, height] = [side(own["width"]), side(own["height"])];
  const [naturalWidth, naturalHeight] = [img.naturalWidth, img.naturalHeight];
  if (!width && !height) [width, height] = [naturalWidth, naturalHeight];
  else if (naturalWidth && naturalHeight) {
    width ||= Math.max(1, Math.round((height * naturalWidth) / naturalHeight));
    height ||= Math.max(1, Math.round((width * naturalHeight) / naturalWidth));
  }
  if (width) img.width = width;
  if (height) img.height = height;
  element.append(img);
};
