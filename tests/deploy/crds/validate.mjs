// Reads a JSON array of custom resources from standard input; writes a line for each fault.
import { readdirSync, readFileSync } from "node:fs";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const models = { ...keda, ...prometheus };
const folders = ["keda/keda.sh/v1alpha1", "prometheus-operator/monitoring.coreos.com/v1"];
// The schemas accept unknown fields. The declarations name all fields, so a misspelt one is not among them.
const fields = new Set(["apiVersion", "kind", "metadata", "name", "matchLabels"]);
for (const folder of folders.map((name) => `node_modules/@kubernetes-models/${name}`)) {
  for (const file of readdirSync(folder).filter((name) => name.endsWith(".d.ts"))) {
    const text = readFileSync(`${folder}/${file}`, "utf8");
    for (const [, name] of text.matchAll(/^ +"(\w+)"\??:/gm)) fields.add(name);
  }
}
// Fields of the horizontal pod autoscaler, which KEDA takes over.
for (const name of ["scaleUp", "scaleDown", "stabilizationWindowSeconds", "policies", "value", "periodSeconds"]) fields.add(name);

function* unknown(value, path) {
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) yield* unknown(item, `${path}/${index}`);
  } else if (value !== null && typeof value === "object") {
    for (const [name, inner] of Object.entries(value)) {
      if (!fields.has(name)) yield `${path}/${name}: unknown field`;
      // Maps with free names.
      if (!["metadata", "labels", "annotations", "matchLabels"].includes(name)) yield* unknown(inner, `${path}/${name}`);
    }
  }
}

let count = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata.name}`;
  for (const fault of unknown(object, "")) console.log(`${name}: ${fault}`);
  try {
    new models[object.kind](object).validate();
    count += 1;
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
console.error(`${count} valid`);
