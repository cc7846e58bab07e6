// A ranker: reads the answers of the scorer, and chooses the ad with the highest click probability.
//
//     node ranker.js [IDLE_S]
//
// It ends when no answer came for IDLE_S seconds; without it, at SIGTERM. KAFKA_BROKERS, ANSWER_TOPIC, GROUP and START_AT
// (latest or earliest) replace the defaults.

import { Consumer, FetchIsolationLevels, MessagesStreamFallbackModes, MessagesStreamModes } from '@platformatic/kafka'
import { answerIn } from './answers.js'

const { KAFKA_BROKERS = 'localhost:9092', ANSWER_TOPIC = 'ctr-scores', GROUP = 'rankers', START_AT } = process.env
const KEPT_ORIGINS = 100_000 // more than a crash of the scorer can repeat

// The origins of the latest answers, oldest first: an answer with a known one is a duplicate.
const origins = new Set()

function isNew ({ origin }) {
  const place = `${origin.topic}/${origin.partition}/${origin.offset}`
  if (origins.has(place)) return false
  origins.add(place)
  if (origins.size > KEPT_ORIGINS) origins.delete(origins.values().next().value)
  return true
}

// Milliseconds after the deadline; below 0: in time. Bidder and ranker need synchronous clocks.
function lateMs (message) {
  const headers = Object.fromEntries([...message.headers].map(([name, value]) => [String(name), String(value)]))
  if (headers.sent_at_ms === undefined || headers.deadline_ms === undefined) return 0
  const late = Math.round(Date.now() - Number(headers.sent_at_ms) - Number(headers.deadline_ms))
  return Number.isNaN(late) ? 0 : late // a bidder can send any text
}

// The ad with the highest score; null without scores.
function best (answer) {
  switch (answer.status) {
    case 'ok':
    case 'partial':
    case 'fallback':
      // `source` says which scores are priors: all of a fallback's, some of a partial answer's.
      return answer.ad_id[answer.ctr.indexOf(Math.max(...answer.ctr))]
    case 'expired':
      return null // too late to score
    case 'invalid':
      console.error(`${answer.request_id}: ${answer.reason}`) // a fault of the bidder
      return null
    default:
      console.error(`${answer.request_id}: unknown status ${answer.status}`) // a newer scorer
      return null
  }
}

const consumer = new Consumer({ clientId: 'ranker', groupId: GROUP, bootstrapBrokers: KAFKA_BROKERS.split(',') })
const stream = await consumer.consume({
  topics: [ANSWER_TOPIC],
  mode: MessagesStreamModes.COMMITTED,
  fallbackMode: START_AT === 'earliest' ? MessagesStreamFallbackModes.EARLIEST : MessagesStreamFallbackModes.LATEST,
  isolationLevel: FetchIsolationLevels.READ_COMMITTED,
  autocommit: 5000,
  maxWaitTime: 1000
})
const stop = () => stream.close()
process.once('SIGTERM', stop)
const statuses = {}
let duplicates = 0
let late = 0
let idle
for await (const message of stream) {
  clearTimeout(idle)
  if (process.argv[2]) idle = setTimeout(stop, Number(process.argv[2]) * 1000)
  const answer = answerIn(message)
  if (answer === undefined) continue
  if (!isNew(answer)) {
    duplicates++
    continue
  }
  const after = lateMs(message)
  if (after > 0) late++
  statuses[answer.status] = (statuses[answer.status] ?? 0) + 1
  console.log(JSON.stringify({ request_id: answer.request_id, late_ms: after, best: best(answer) }))
}
await consumer.close()
console.log(JSON.stringify({ answers: statuses, duplicates, late }))
