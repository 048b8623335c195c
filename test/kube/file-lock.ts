// A lock between processes that the kernel takes back when its holder ends, however it ends.
import { LabProcess } from "../../lab/process.ts";

/** Held by a child (`flock`, util-linux) that lives as long as we do and not longer. */
export class FileLock implements AsyncDisposable {
  readonly #holder: LabProcess;

  private constructor(holder: LabProcess) {
    this.#holder = holder;
  }

  /** Waits as long as it takes. @throws {LabError} `NOT_READY` when the file cannot be locked */
  static async take(file: string, waitMs = 2 * 60 * 60_000): Promise<FileLock> {
    const holder = await LabProcess.start(
      // the shell ends when our end of its input goes, and the lock with it
      ["flock", "--no-fork", file, "sh", "-c", "echo locked; read -r _ || true"],
      { name: `lock ${file}` },
    );
    try {
      await holder.waitForOutput(/locked/, waitMs);
    } catch (error) {
      await holder.stop();
      throw error;
    }
    return new FileLock(holder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#holder.closeInput();
    await this.#holder.stop();
  }
}
