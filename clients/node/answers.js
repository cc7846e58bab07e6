// The answer in a record; undefined, logged, for a binary answer and another program's record.
export function answerIn ({ value, partition, offset }) {
  try {
    const answer = JSON.parse(value)
    if (answer?.origin !== undefined) return answer
  } catch {}
  console.error(`${partition}/${offset}: no answer in JSON`)
}
