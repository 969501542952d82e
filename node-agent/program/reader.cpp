#include "node-agent/program/reader.h"

namespace sluice::agent::program {

std::optional<KeyValue> find_word(const ImageView& image, uint64_t word) {
  const uint64_t table = image.config->key_table;
  const uint32_t log2 = SLUICE_KEY_TABLE_LOG2(table);
  if (table == 0 || log2 > 24) {
    return std::nullopt;
  }
  const uint32_t mask = (1U << log2) - 1;
  const uint32_t home = sluice_key_hash(word, SLUICE_KEY_TABLE_SEED(table));
  for (uint32_t step = 0; step < SLUICE_MAX_PROBES; ++step) {
    const size_t position = size_t{SLUICE_KEY_TABLE_OFFSET(table)} + ((home + step) & mask);
    if (position >= image.keys.size() || image.keys[position].key == SLUICE_KEY_EMPTY) {
      return std::nullopt;
    }
    if (image.keys[position].key == word) {
      return KeyValue{image.keys[position].value, image.keys[position].extra};
    }
  }
  return std::nullopt;
}

std::optional<KeyValue> find_key(const ImageView& image, const WholeKey& key) {
  const auto found = find_word(image, key.word());
  if (!found || key.address.is_ipv4()) {
    return found;
  }
  return found->extra < image.keys6.size() && whole_key(image.keys6[found->extra]) == key ? found : std::nullopt;
}

std::string word_text(const ImageView& image, uint64_t word) {
  if (const auto key = whole_key(word)) {
    return key->to_string();
  }
  const auto found = find_word(image, word);
  if (SLUICE_KEY_KIND(word) == SLUICE_KEY_IPV6 && found && found->extra < image.keys6.size()) {
    if (const auto key = whole_key(image.keys6[found->extra])) {
      return key->to_string();
    }
  }
  if (SLUICE_KEY_KIND(word) == SLUICE_KEY_BACKEND && found && found->value < image.backends.size()) {
    return "backend record " + std::to_string(found->value);
  }
  return "key " + std::to_string(word);
}

std::optional<uint16_t> read_slot(const ImageView& image, uint64_t table, uint32_t plane, uint32_t slot) {
  const uint32_t first = SLUICE_TABLE_OFFSET(table);
  const uint64_t position = first + (uint64_t{plane} << SLUICE_TABLE_LOG2(table)) + slot;
  const uint64_t element = position / SLUICE_SLOTS_PER_WORD;
  if (element >= image.slots.size()) {
    return std::nullopt;
  }
  return static_cast<uint16_t>(image.slots[element] >> (position % SLUICE_SLOTS_PER_WORD * 16));
}

}  // namespace sluice::agent::program
