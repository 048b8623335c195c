// `key=value` and `key-` words of `ambit label`, checked as the API server would.
import { CliError } from "../errors.ts";

/** `null` removes the label. */
export type LabelChanges = Readonly<Record<string, string | null>>;

const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const PREFIX = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const VALUE = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;

export function isLabelWord(word: string): boolean {
  return word.includes("=") || word.endsWith("-");
}

/** @throws {CliError} USAGE for a malformed key or value, or a key given twice */
export function parseLabelChanges(words: readonly string[]): LabelChanges {
  const changes: Record<string, string | null> = {};
  for (const word of words) {
    const equals = word.indexOf("=");
    const key = equals >= 0 ? word.slice(0, equals) : word.slice(0, -1);
    const value = equals >= 0 ? word.slice(equals + 1) : null;
    if (!isLabelKey(key))
      throw new CliError("USAGE", `Not a label key: ${JSON.stringify(key)}`, [
        "a key is [dns-name/]name; name has up to 63 letters, digits, '.', '_' or '-'",
      ]);
    if (value !== null && !VALUE.test(value))
      throw new CliError("USAGE", `Not a label value: ${JSON.stringify(value)} for ${key}`, [
        "a value has up to 63 letters, digits, '.', '_' or '-', and starts and ends with a letter or digit",
      ]);
    if (Object.hasOwn(changes, key))
      throw new CliError("USAGE", `Label ${key} is given more than once`);
    changes[key] = value;
  }
  return changes;
}

function isLabelKey(key: string): boolean {
  const slash = key.indexOf("/");
  const prefix = slash < 0 ? null : key.slice(0, slash);
  return (
    NAME.test(key.slice(slash + 1)) &&
    (prefix === null || (prefix.length <= 253 && PREFIX.test(prefix)))
  );
}
