// A bidder: sends requests to the scorer, and waits for their answers.
//
//     node bidder.js COUNT
//
// KAFKA_BROKERS, REQUEST_TOPIC, ANSWER_TOPIC and DEADLINE_MS replace the defaults.

import { randomUUID } from 'node:crypto'
import {
  compatibilityPartitioner,
  CompressionAlgorithms,
  Consumer,
  FetchIsolationLevels,
  MessagesStreamModes,
  Producer,
  stringSerializers
} from '@platformatic/kafka'
import { answerIn } from './answers.js'

const { KAFKA_BROKERS = 'localhost:9092', REQUEST_TOPIC = 'bid-requests', ANSWER_TOPIC = 'ctr-scores' } = process.env
const DEADLINE_MS = Number(process.env.DEADLINE_MS ?? 30)
const WAY_BACK_MS = 10 // after the deadline, an answer may still be on its way

export class Bidder {
  #waiting = new Map()
  #producer
  #consumer
  #stream

  static async connect () {
    const bidder = new Bidder()
    const client = { clientId: 'bidder', bootstrapBrokers: KAFKA_BROKERS.split(','), timeout: 5000 }
    bidder.#producer = new Producer({
      ...client,
      serializers: stringSerializers,
      // Murmur2 as Kafka's own clients use it. The default differs where the number of partitions is no power of two.
      partitioner: compatibilityPartitioner,
      compression: CompressionAlgorithms.LZ4
    })
    // Its own positions, and a group that nobody shares: each bidder needs the answers to its own requests.
    bidder.#consumer = new Consumer({ ...client, groupId: `bidder-${randomUUID()}` })
    const ends = await bidder.#consumer.listOffsets({ topics: [ANSWER_TOPIC] })
    bidder.#stream = await bidder.#consumer.consume({
      topics: [ANSWER_TOPIC],
      mode: MessagesStreamModes.MANUAL,
      offsets: ends.get(ANSWER_TOPIC).map((offset, partition) => ({ topic: ANSWER_TOPIC, partition, offset })),
      isolationLevel: FetchIsolationLevels.READ_COMMITTED,
      autocommit: false,
      maxWaitTime: 1000
    })
    bidder.#stream.on('data', message => bidder.#receive(answerIn(message)))
    bidder.#stream.on('error', error => console.error(error.message))
    return bidder
  }

  // Sends a request; resolves to its answer, or rejects if the brokers do not take it or no answer comes in time.
  score (user, candidates) {
    const id = randomUUID()
    const request = { request_id: id, user: { id: user }, context: { hour: new Date().getUTCHours() }, candidates }
    const headers = {
      request_id: id,
      deadline_ms: String(DEADLINE_MS),
      'content-type': 'application/json',
      sent_at_ms: String(Date.now()) // for the ranker: the answer has the request's headers
    }
    let timer
    const answered = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error('no answer')), DEADLINE_MS + WAY_BACK_MS)
      this.#waiting.set(id, resolve)
      this.#producer
        .send({ messages: [{ topic: REQUEST_TOPIC, key: user, value: JSON.stringify(request), headers }] })
        .then(({ offsets: [{ partition }] }) => console.log(JSON.stringify({ request_id: id, user, partition })))
        .catch(reject)
    })
    return answered.finally(() => {
      clearTimeout(timer)
      this.#waiting.delete(id)
    })
  }

  #receive (answer) {
    // Nobody waits for answers to other bidders, to requests that were given up, and for duplicates.
    this.#waiting.get(answer?.request_id)?.(answer)
  }

  async close () {
    await this.#stream.close()
    await this.#consumer.close()
    await this.#producer.close()
  }
}

const bidder = await Bidder.connect()
for (let i = 0; i < Number(process.argv[2]); i++) {
  const started = performance.now()
  try {
    const answer = await bidder.score(`u${i % 40}`, { ad_id: ['a1', 'a2', 'a3'], bid: [0.4, 1.2, 0.7] })
    const ms = Math.round(performance.now() - started)
    console.log(JSON.stringify({ request_id: answer.request_id, status: answer.status, ms }))
  } catch {
    console.log(JSON.stringify({ status: 'no answer' })) // bid without a score, or not at all
  }
}
await bidder.close()
