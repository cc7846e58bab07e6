"""A schema registry: the schemas of writers by their ids, and the id of the answers' schema.

Guarantees: no record waits for the registry; a start with a schema that does not fit ends with the field.
In: the ids in the prefixes of records. Out: reasons why such a record cannot be read; the prefix of answers.
"""
