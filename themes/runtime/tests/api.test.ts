import { afterEach, expect, test, vi } from "vitest";
import { Api, ApiError } from "../src/live/api";

const ROOT = new URL("https://example.org/some/portal/");
const PAGE = { path: "/some/portal/dashboards/a/", query: "?n=1", version: "0123456789abcdef" };

afterEach(() => vi.unstubAllGlobals());

function answering(status: number, body: unknown, headers: Record<string, string> = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const fetched = vi.fn((_url: URL, _options: RequestInit) => Promise.resolve(new Response(status === 204 ? null : text, { status, headers })));
  vi.stubGlobal("fetch", fetched);
  return fetched;
}

async function refused(): Promise<ApiError> {
  return new Api(ROOT).start(PAGE).then(() => expect.unreachable(), (error: unknown) => error as ApiError);
}

test("a kernel is asked for by the address and version of the page, below the address of the site", async () => {
  const fetched = answering(201, { id: "k1", name: "python3" });
  const api = new Api(ROOT);
  expect(await api.start(PAGE)).toBe("k1");
  const [url, options] = fetched.mock.calls[0]!;
  expect(url.href).toBe("https://example.org/some/portal/api/kernels");
  expect(options.method).toBe("POST");
  expect(JSON.parse(options.body as string)).toEqual({ path: PAGE.path, query: "?n=1" });
  expect(options.headers).toMatchObject({ "X-Jupyter-Session-Id": api.session, "X-Nbfolio-Page-Version": PAGE.version });
});

test("the socket belongs to the same session and is as safe as the page", () => {
  const api = new Api(ROOT);
  expect(api.socketUrl("k1")).toBe(`wss://example.org/some/portal/api/kernels/k1/channels?session_id=${api.session}`);
  expect(new Api(new URL("http://127.0.0.1:3000/")).socketUrl("k")).toMatch(/^ws:\/\/127\.0\.0\.1:3000\/api\/kernels\/k\/channels/);
});

test("a refusal says what the server says", async () => {
  answering(409, { message: "This page was updated, reload it.", status: 409 });
  expect(await refused()).toMatchObject({ status: 409, message: "This page was updated, reload it." });
});

test.each([[503, "<html>"], [502, "null"], [500, '{"message": 7}'], [403, ""]])("a refusal without words of its own (%d, %j) has a sentence", async (status, body) => {
  answering(status, body);
  expect(await refused()).toMatchObject({ status, message: `The server answered ${status}.` });
});

test.each([
  [{ "Retry-After": "7" }, 7],
  [{ "Retry-After": "99999" }, 120],
  [{ "Retry-After": "soon" }, 10],
  [{ "Retry-After": "-1" }, 10],
  [{}, 10],
])("a full server says when to ask again (%j), within bounds", async (headers, seconds) => {
  answering(503, { message: "full", queue: 3 }, headers as Record<string, string>);
  expect(await refused()).toMatchObject({ retrySeconds: seconds, place: 3 });
});

test("an answer that is no kernel, and no answer at all, are errors for the reader", async () => {
  answering(201, "[]");
  expect((await refused()).message).toBe("The server's answer makes no sense.");
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
  expect(await refused()).toMatchObject({ status: 0, message: "The server cannot be reached." });
});

test("a kernel exists, does not, or nobody knows", async () => {
  answering(200, { id: "k" });
  expect(await new Api(ROOT).exists("k")).toBe(true);
  answering(404, { message: "no" });
  expect(await new Api(ROOT).exists("k")).toBe(false);
  answering(502, { message: "down" });
  await expect(new Api(ROOT).exists("k")).rejects.toThrow("down");
});

test("ending a kernel outlives the page and never fails", async () => {
  const fetched = answering(404, {});
  await new Api(ROOT).end("k");
  expect(fetched.mock.calls[0]![1]).toMatchObject({ method: "DELETE", keepalive: true });
});

test("interrupt and restart go to the kernel", async () => {
  const fetched = answering(204, null);
  await new Api(ROOT).interrupt("k");
  await new Api(ROOT).restart("k");
  expect(fetched.mock.calls.map(([url, { method }]) => `${method} ${url.pathname}`)).toEqual([
    "POST /some/portal/api/kernels/k/interrupt", "POST /some/portal/api/kernels/k/restart",
  ]);
});
