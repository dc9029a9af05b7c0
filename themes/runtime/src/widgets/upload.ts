/** The file upload of @jupyter-widgets/controls, which would read files of any size into memory and then send them. */
import { FileUploadView as Upstream } from "@jupyter-widgets/controls";
import { problemOf } from "./comm";
import { say } from "./notes";

/** What a message says of each file: name, type, dates. */
const BYTES_PER_FILE = 1024;

export class FileUploadView extends Upstream {
  override render(): void {
    super.render();
    this.fileInput.addEventListener("change", (event) => this.check(event), { capture: true });
  }

  /** Runs before upstream's listener, and instead of it when the files are too large. */
  private check(event: Event): void {
    const files = [...(this.fileInput.files ?? [])];
    const problem = problemOf(files.reduce((sum, { size }) => sum + size + BYTES_PER_FILE, 0), files.length);
    if (problem) event.stopImmediatePropagation();
    say(this.el, problem);
  }
}
