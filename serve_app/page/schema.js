// JSON Schema as a reader's sketch: JSON with a type's name where a value stands, `?` behind what may be missing.

const DEEP = 7;

/** Returns a schema's type in a few words. */
export function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map(typeOf).join(" | ");
  return schema.type ? [schema.type].flat().join(" | ") : "any";
}

/** Returns the sketch of a schema; references are followed once each on the way down. */
export function schemaText(schema, schemas) {
  return sketch(schema, { schemas, seen: [], depth: 0 });
}

function sketch(schema, way) {
  if (schema.$ref) {
    const name = typeOf(schema);
    if (way.seen.includes(name) || way.depth > DEEP) return name;
    return sketch(way.schemas[name], { ...way, seen: [...way.seen, name] });
  }
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((one) => sketch(one, way)).join(way.depth ? " | " : "\nor\n");
  if (schema.type === "array") return `[${sketch(schema.items, way)}, …]`;
  if (schema.properties) return members(schema, way);
  if (schema.type === "object" && schema.additionalProperties) return `{ name: ${sketch(schema.additionalProperties, inside(way))}, … }`;
  return typeOf(schema);
}

const inside = (way) => ({ ...way, depth: way.depth + 1 });

function members(schema, way) {
  const indent = "  ".repeat(way.depth + 1);
  const lines = Object.entries(schema.properties).map(([name, value]) => {
    const mark = schema.required?.includes(name) ? "" : "?";
    return `${indent}${name}${mark}: ${sketch(value, inside(way))}${value.description ? `  // ${value.description}` : ""}`;
  });
  return `{\n${lines.join("\n")}\n${"  ".repeat(way.depth)}}`;
}
