// The student of this folder in the browser: tokenizer, ONNX graph, and the rule of its calibration.
import * as ort from "./vendor/ort.wasm.min.mjs";
import { Tokenizer } from "./vendor/tokenizers.min.mjs";

ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send

const read = async (name) => (await fetch(new URL(name, import.meta.url))).json();

export class Student {
  static async load() {
    const [settings, tokenizer] = await Promise.all([read("./student.json"), read("./tokenizer.json")]);
    const student = new Student();
    Object.assign(student, settings);
    student.tokenizer = new Tokenizer(tokenizer, {});
    student.session = await ort.InferenceSession.create(new URL("./model.onnx", import.meta.url).href);
    return student;
  }

  // Token ids of a row of fields, cut as in training; the end token stays.
  encode(fields) {
    // Each slot of the template once, so that braces in a text stay what they are.
    const text = this.template.map((part) => (part.field === undefined ? part.text : fields[part.field])).join("");
    const ids = Array.from(this.tokenizer.encode(text).ids, Number);
    return ids.length <= this.max_input_tokens ? ids : [...ids.slice(0, this.max_input_tokens - 1), ids.at(-1)];
  }

  async predict(fields) {
    const ids = this.encode(fields);
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const inputs = { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
    const { log_probs, best, energy } = await this.session.run(inputs);
    return this.judge(Array.from(log_probs.data), Number(best.data[0]), energy.data[0]);
  }

  // The rule of gold_lightning/calibration/rule.py for one row.
  judge(logProbs, best, energy) {
    const rule = this.calibration ?? {};
    const scaled = logProbs.map((value) => value / (rule.temperature ?? 1));
    const shares = scaled.map((value) => Math.exp(value - Math.max(...scaled)));
    const total = shares.reduce((sum, share) => sum + share, 0);
    const values = shares.map((share) => share / total);
    const result = { label: this.labels[best], probability: values[best], energy, known: null };
    if (typeof rule.threshold === "number") {
      if (rule.promise === "conformal") {
        result.label_set = this.labels.filter((_, i) => values[i] >= rule.threshold || i === best);
        result.known = result.label_set.length === 1;
      } else {
        result.known = rule.score === "energy" ? energy <= rule.threshold : values[best] >= rule.threshold;
      }
    }
    result.probabilities = Object.fromEntries(this.labels.map((label, i) => [label, values[i]]));
    return result;
  }
}
