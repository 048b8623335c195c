// Which profile an installation gets: the one named, else the one that is there, else the base.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError } from "../errors.ts";
import { metadataOf } from "../manifest/object-id.ts";
import { testKube } from "../testdata/test-kube.ts";
import { chooseProfile, type Choice } from "./installed-profile.ts";
import {
  findProfile,
  givenProfile,
  type ManifestFlags,
  PROFILE_ANNOTATION,
  renderProfile,
} from "./profile.ts";
import { isMeshConfig, parseSettings } from "./settings.ts";

/** @param annotations  of the mesh configuration; `null`: there is none */
async function choose(
  flags: ManifestFlags,
  annotations: Readonly<Record<string, string>> | null,
): Promise<Choice & { readonly said: string }> {
  const metadata = { name: "istio", namespace: "istio-system", annotations: annotations ?? {} };
  const kube = testKube(
    annotations === null ? [] : [{ apiVersion: "v1", kind: "ConfigMap", metadata }],
  );
  let said = "";
  const choice = await chooseProfile(flags, kube, { err: (line) => void (said += line) });
  return { ...choice, said };
}

test("what is applied says its profile, and nothing but the mesh configuration does", async () => {
  for (const name of ["base", "kind", "production"]) {
    const objects = await renderProfile(await findProfile(name), parseSettings([]));
    const marked = objects.filter((o) =>
      JSON.stringify(metadataOf(o)["annotations"] ?? {}).includes(PROFILE_ANNOTATION),
    );
    assert.equal(marked.length, 1);
    assert.ok(marked.every(isMeshConfig));
    assert.match(JSON.stringify(marked), new RegExp(`"${PROFILE_ANNOTATION}":"${name}"`));
  }
});

test("without flags what is installed stays, and is named", async () => {
  const kept = await choose({}, { [PROFILE_ANNOTATION]: "production" });
  assert.deepEqual([kept.profile.name, kept.replaces], ["production", null]);
  assert.match(kept.said, /profile production, as installed/);
  const first = await choose({}, null);
  assert.deepEqual([first.profile.name, first.said], ["base", ""]);
});

test("an installation that does not say gets the base, with a warning", async () => {
  const choice = await choose({}, {});
  assert.equal(choice.profile.name, "base");
  assert.match(choice.said, /^warning: .* does not say which profile .*--profile$/);
});

test("flags go before what is installed, and what they replace is told", async () => {
  const other = await choose({ profile: "kind" }, { [PROFILE_ANNOTATION]: "production" });
  assert.deepEqual([other.profile.name, other.replaces], ["kind", "production"]);
  const same = await choose({ profile: "kind" }, { [PROFILE_ANNOTATION]: "kind" });
  assert.equal(same.replaces, null);
  const own = await choose({ overlay: "/a/mine/" }, { [PROFILE_ANNOTATION]: "overlay:mine" });
  assert.deepEqual([own.profile.name, own.replaces], ["overlay:mine", null]);
  assert.equal(await givenProfile({}), null);
});

test("what cannot be made again without being told how is refused, naming both ways", async () => {
  for (const [installed, hint] of [
    ["overlay:mine", /--overlay DIR/],
    ["gone", /no such profile/],
  ] as const)
    await assert.rejects(choose({}, { [PROFILE_ANNOTATION]: installed }), (error) => {
      assert.ok(error instanceof CliError && error.code === "USAGE");
      assert.ok(error.message.includes(installed));
      assert.match(error.hints.join("\n"), hint);
      assert.match(error.hints.join("\n"), /--profile base, kind, production/);
      return true;
    });
});
