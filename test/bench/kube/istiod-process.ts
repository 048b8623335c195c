// One istiod, bundled as in the image, that follows a test cluster's API server from outside.
import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { LabProcess } from "../../../lab/process.ts";
import { freePorts } from "../../kube/ports.ts";

const READY_MS = 300_000;
const POLL_MS = 10;

/** Owns the process. */
export class IstiodProcess implements AsyncDisposable {
  readonly port: number;
  readonly #monitoring: number;
  readonly #process: LabProcess;

  private constructor(port: number, monitoring: number, process: LabProcess) {
    this.port = port;
    this.#monitoring = monitoring;
    this.#process = process;
  }

  static async start(main: string, kubeconfig: string, name: string): Promise<IstiodProcess> {
    const [port = 0, monitoring = 0] = await freePorts(2);
    const child = await LabProcess.start([process.execPath, main], {
      name: "istiod",
      env: {
        KUBECONFIG: kubeconfig,
        ISTIOD_ADDR: `127.0.0.1:${port}`,
        MONITORING_ADDR: `127.0.0.1:${monitoring}`,
        ROOT_CA_DIR: "/nonexistent",
        POD_NAME: name,
        LOG_LEVEL: "warn",
      },
    });
    return new IstiodProcess(port, monitoring, child);
  }

  get pid(): number {
    return this.#process.pid;
  }

  async untilReady(): Promise<void> {
    const deadline = Date.now() + READY_MS;
    while (!(await this.#isReady())) {
      if (!this.#process.running || Date.now() > deadline)
        throw new Error(`istiod is not ready:\n${this.#process.tail()}`);
      await sleep(POLL_MS);
    }
  }

  /** In all answers so far, as istiod counts them. */
  async bytesSent(): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.#monitoring}/metrics`)).text();
    const sums = text.matchAll(/^pilot_xds_config_size_bytes_sum\S* (\S+)$/gm);
    return [...sums].reduce((total, [, sum]) => total + Number(sum), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }

  #isReady(): Promise<boolean> {
    const url = { host: "127.0.0.1", port: this.#monitoring, path: "/ready", timeout: 1_000 };
    return new Promise((resolve) => {
      get(url, (response) => {
        response.resume();
        resolve(response.statusCode === 200);
      }).once("error", () => resolve(false));
    });
  }
}
