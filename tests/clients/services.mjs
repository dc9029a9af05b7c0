// What an unmodified @jupyterlab/services sees of kernels that are reached through run-shim.
//
//   node services.mjs '{"baseUrl": ..., "token": ..., "visit": ..., "page": ..., "cases": [...]}'
//
// The cases run one after the other, most of them on one kernel of `page`. The last line of the output is a JSON object
// with what each of them saw. Nothing is judged here.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../themes/runtime/package.json", import.meta.url));
const { KernelManager, ServerConnection, SessionManager } = require("@jupyterlab/services");

const { baseUrl, token, visit, page, cases } = JSON.parse(process.argv[2]);
for (const level of ["debug", "warn"]) {
    console[level] = () => {};
}

/** The settings of a client; a visit is what tells anonymous clients apart. */
function settings(name) {
    const init = { cache: "no-store", headers: name ? { "X-Jupyter-Session-Id": name } : {} };
    return ServerConnection.makeSettings({ baseUrl, token, init });
}

const managers = [];

function kernelManager(name = visit) {
    managers.push(new KernelManager({ serverSettings: settings(name) }));
    return managers.at(-1);
}

const kernels = kernelManager();
let kernel;
const statuses = [];
const connections = [];
const heard = [];

/** A promise of the first value of a signal that is the wanted one. */
function signalled(signal, wanted) {
    return new Promise((resolve) => {
        const slot = (_, value) => {
            if (value === wanted) {
                signal.disconnect(slot);
                resolve(value);
            }
        };
        signal.connect(slot);
    });
}

/** Run what is said to be code; `begun` is called with the first output. */
async function run(on, code, begun = () => {}) {
    const future = on.requestExecute({ code });
    const outputs = [];
    const prompts = [];
    let streaming = false;
    future.onIOPub = ({ header, content }) => {
        if (["status", "execute_input"].includes(header.msg_type)) {
            return;
        }
        // A text may come in several pieces.
        const before = streaming && header.msg_type === "stream" ? outputs.pop() : "";
        streaming = header.msg_type === "stream";
        outputs.push(streaming ? before + content.text : (content.ename ?? content.data));
        begun();
    };
    future.onStdin = ({ header, content }) => {
        prompts.push(content.prompt);
        on.sendInputReply({ status: "ok", value: "ada" }, header);
    };
    const { content } = await future.done;
    return { reply: content, outputs, prompts };
}

function bytes(buffers) {
    return buffers.map((buffer) => [...new Uint8Array(buffer.buffer ?? buffer, buffer.byteOffset, buffer.byteLength)]);
}

async function listed(manager) {
    await manager.refreshRunning();
    return [...manager.running()].map(({ id }) => id);
}

const CASES = {
    async start() {
        await kernels.ready;
        kernel = await kernels.startNew({ name: "python3", path: page });
        kernel.statusChanged.connect((_, status) => statuses.push(status));
        kernel.connectionStatusChanged.connect((_, status) => connections.push(status));
        kernel.anyMessage.connect((_, { msg, direction }) => direction === "recv" && heard.push(JSON.stringify(msg)));
        const { language_info: language } = await kernel.info;
        return { name: kernel.name, language: language.name, connection: kernel.connectionStatus };
    },

    async execute() {
        return [await run(kernel, "1"), await run(kernel, "1")];
    },

    async refuse() {
        connections.length = 0;
        const replies = [];
        for (const code of ["print(1)", "0", "99", "-1", ""]) {
            replies.push(await run(kernel, code));
        }
        const { content: completed } = await kernel.requestComplete({ code: "pri", cursor_pos: 3 });
        const { content: inspected } = await kernel.requestInspect({ code: "run", cursor_pos: 3, detail_level: 1 });
        const { content: past } = await kernel.requestHistory({ hist_access_type: "tail", n: 9, output: false, raw: true });
        return { replies, others: [completed, inspected, past], connections: [...connections], after: await run(kernel, "1") };
    },

    async fail() {
        return run(kernel, "2");
    },

    async ask() {
        return run(kernel, "3");
    },

    async talk() {
        const opened = new Promise((resolve) => {
            kernel.registerCommTarget("kernel-opens", (comm, message) => resolve({ comm, message }));
        });
        await run(kernel, "4");
        const { comm, message } = await opened;
        const answer = new Promise((resolve) => (comm.onMsg = resolve));
        await comm.send({ word: "up" }, undefined, [new Uint8Array([1, 2, 3]).buffer, new Uint8Array([]).buffer]).done;
        const answered = await answer;

        const mine = kernel.createComm("page-opens");
        const echo = new Promise((resolve) => (mine.onMsg = resolve));
        await mine.open({ word: "open" }, {}, [new Uint8Array([7]).buffer]).done;
        const echoed = await echo;
        const { content: info } = await kernel.requestCommInfo({ target_name: "page-opens" });
        await mine.close({ word: "close" }).done;
        return {
            opened: [message.content.data, bytes(message.buffers)],
            answered: [answered.content.data, bytes(answered.buffers)],
            echoed: [echoed.content.data, bytes(echoed.buffers)],
            known: Object.keys(info.comms).includes(mine.commId),
            closed: (await run(kernel, "8")).outputs,
        };
    },

    async interrupt() {
        let interrupted;
        const done = await run(kernel, "5", () => (interrupted ??= kernel.interrupt()));
        await interrupted;
        return { ...done, after: await run(kernel, "1") };
    },

    async restart() {
        statuses.length = 0;
        await kernel.restart();
        const after = await run(kernel, "1");
        return { after, statuses: [...statuses] };
    },

    async crash() {
        statuses.length = 0;
        const restarting = signalled(kernel.statusChanged, "autorestarting");
        const crashed = run(kernel, "6").then(() => "done", ({ message }) => message);
        await restarting;
        return { crashed: await crashed, after: await run(kernel, "1"), id: kernel.id, statuses: [...statuses] };
    },

    async list() {
        return { id: kernel.id, own: await listed(kernels), others: await listed(kernelManager("another-visit")) };
    },

    async shutdown() {
        const { id } = kernel;
        await kernel.shutdown();
        const url = `${kernel.serverSettings.baseUrl}api/kernels/${id}`;
        const { status } = await ServerConnection.makeRequest(url, {}, kernel.serverSettings);
        return { status, left: await listed(kernels), kernel: kernel.status };
    },

    async session() {
        const sessions = new SessionManager({ serverSettings: settings(visit), kernelManager: kernels });
        managers.push(sessions);
        const options = { path: page, name: "mine", type: "notebook", kernel: { name: "python3" } };
        const session = await sessions.startNew(options);
        const done = await run(session.kernel, "1");
        await session.setName("other");
        await sessions.refreshRunning();
        const running = [...sessions.running()].map(({ id, name, path }) => ({ own: id === session.id, name, path }));
        await session.shutdown();
        await sessions.refreshRunning();
        return { done, running, disposed: session.isDisposed, left: [...sessions.running()].length };
    },

    // Neither a visit nor a token: the lists stay empty, and that must not look as if its kernel had ended.
    async nameless() {
        const manager = kernelManager("");
        const one = await manager.startNew({ path: page });
        const first = await run(one, "1");
        const found = await listed(manager);
        const second = await run(one, "1");
        await one.shutdown();
        return { first, found, second };
    },

    // The kernel has run its cells ahead: what it said is played, but not once it began anew.
    async warm() {
        const one = await kernels.startNew({ path: page });
        const played = await run(one, "0");
        const restarting = signalled(one.statusChanged, "autorestarting");
        const crashed = run(one, "2").catch(() => {});
        await restarting;
        await crashed;
        const restarted = await run(one, "1");
        await one.shutdown();
        return { played, restarted };
    },
};

const report = {};
for (const name of cases) {
    try {
        report[name] = await CASES[name]();
    } catch (error) {
        report[name] = { failure: error.message, status: error.response?.status ?? null };
    }
}
for (const manager of managers.reverse()) {
    manager.dispose();
}
process.stdout.write(`${JSON.stringify({ ...report, heard })}\n`, () => process.exit(0));
