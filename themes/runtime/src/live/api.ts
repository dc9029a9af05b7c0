/** The REST calls that start, ask after, interrupt, restart and end a kernel. */
import { newId } from "./protocol";

const START_SECONDS = 90;
const CALL_SECONDS = 20;
const DEFAULT_RETRY_SECONDS = 10;
const LONGEST_RETRY_SECONDS = 120;

/** A request that the server refused, or that never reached it (`status` 0); the message is one sentence for the reader. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Seconds after which to ask again, and how many readers wait before this one; for 503 only. */
    readonly retrySeconds: number = DEFAULT_RETRY_SECONDS,
    readonly place: number = 0,
  ) {
    super(message);
  }
}

/** What a kernel is started for. */
export interface PageAddress {
  path: string;
  /** Query of the page's address, with its question mark: values for the cell tagged `parameters`. */
  query: string;
  /** Which build of the page this is, so that its cell numbers mean what the reader sees. */
  version: string;
}

/** The shim's REST interface; the session it makes up is this page's own, and lives in memory only. */
export class Api {
  readonly session = newId();

  /** `root` is the address of the site. */
  constructor(private readonly root: URL) {}

  /** Starts a kernel for a page and returns its id; throws `ApiError`. */
  async start(page: PageAddress): Promise<string> {
    const headers = { "Content-Type": "application/json", "X-Nbfolio-Page-Version": page.version };
    const body = JSON.stringify({ path: page.path, query: page.query });
    const { id } = await this.call("POST", "", { headers, body }, START_SECONDS);
    if (typeof id === "string") return id;
    throw new ApiError(0, "The server's answer makes no sense.");
  }

  /** Whether there still is such a kernel; throws when the server cannot be asked. */
  async exists(id: string): Promise<boolean> {
    try {
      await this.call("GET", id);
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
  }

  async interrupt(id: string): Promise<void> {
    await this.call("POST", `${id}/interrupt`);
  }

  async restart(id: string): Promise<void> {
    await this.call("POST", `${id}/restart`, {}, START_SECONDS);
  }

  /** Ends a kernel; also works while the page goes away. A kernel that is gone already is fine. */
  async end(id: string): Promise<void> {
    await this.call("DELETE", id, { keepalive: true }).catch(() => {});
  }

  /** Address of the WebSocket of a kernel. */
  socketUrl(id: string): string {
    const url = new URL(`api/kernels/${encodeURIComponent(id)}/channels?session_id=${this.session}`, this.root);
    url.protocol = url.protocol.replace("http", "ws");
    return url.href;
  }

  private async call(method: string, rest: string, options: RequestInit = {}, seconds = CALL_SECONDS): Promise<Json> {
    const headers = { "X-Jupyter-Session-Id": this.session, ...options.headers };
    const url = new URL(rest ? `api/kernels/${rest}` : "api/kernels", this.root);
    const signal = AbortSignal.timeout(seconds * 1000);
    const answer = await fetch(url, { ...options, method, headers, signal, cache: "no-store" }).catch(() => null);
    const told = objectIn(await answer?.text().catch(() => "") ?? "");
    if (!answer) throw new ApiError(0, "The server cannot be reached.");
    if (!answer.ok) throw refusal(answer, told);
    return told;
  }
}

type Json = Record<string, unknown>;

function refusal({ status, headers }: Response, { message, queue }: Json): ApiError {
  const words = typeof message === "string" && message ? message : `The server answered ${status}.`;
  const seconds = Number(headers.get("Retry-After") ?? NaN);
  const retry = seconds > 0 ? Math.min(seconds, LONGEST_RETRY_SECONDS) : DEFAULT_RETRY_SECONDS;
  return new ApiError(status, words, retry, typeof queue === "number" ? queue : 0);
}

/** The JSON object in a text, empty where there is none. */
function objectIn(text: string): Json {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value ? (value as Json) : {};
  } catch {
    return {};
  }
}
