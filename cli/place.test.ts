// Which mesh a command line means.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CliError } from "./errors.ts";
import { choosePlace, type PlaceFlags } from "./place.ts";

test("flags before environment, a lab before a cluster", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ambit-place-"));
  const home = join(dir.path, "home");
  mkdirSync(join(home, ".kube"), { recursive: true });
  const running = join(dir.path, "lab");
  mkdirSync(running);
  writeFileSync(join(running, "lab.json"), "{}");
  writeFileSync(join(home, ".kube", "config"), "{}");
  type Env = Readonly<Record<string, string>>;
  const cases: readonly (readonly [flags: PlaceFlags, env: Env, want: string])[] = [
    [{ lab: "/x" }, { KUBECONFIG: "k" }, "lab: --lab"],
    [{ context: "c" }, { AMBIT_LAB: running }, "kubernetes: --context"],
    // oclif fills --lab from the environment, too: that is no choice of the command line
    [{ context: "c", lab: running }, { AMBIT_LAB: running }, "kubernetes: --context"],
    [{ kubeconfig: "k" }, {}, "kubernetes: --kubeconfig"],
    [{ as: "u" }, {}, "kubernetes: --as"],
    [{}, { AMBIT_LAB: "/nowhere", KUBECONFIG: "k" }, "lab: AMBIT_LAB"],
    [{ context: "c", lab: "/x" }, {}, "USAGE"],
  ];
  for (const [flags, env, want] of cases) assert.equal(placeOf(flags, env), want);
});

test("neither lab nor cluster: three ways on", () => {
  // The usual place of root's lab depends on the machine; a lab that runs there is a fine answer.
  const place = placeOf({}, { HOME: "/nonexistent", XDG_RUNTIME_DIR: "/nonexistent" });
  assert.ok(["UNREACHABLE", "lab: it runs"].includes(place), place);
});

function placeOf(flags: PlaceFlags, env: Readonly<Record<string, string>>): string {
  try {
    const { kind, why } = choosePlace(flags, env);
    return `${kind}: ${why}`;
  } catch (error) {
    assert.ok(error instanceof CliError);
    return error.code;
  }
}
