#pragma once
// UTF-8 texts of other people: made valid, and cut where no character is torn.
//
// Not for names in paths, which are bytes. Threads: any.

#include <cstddef>
#include <string>
#include <string_view>

namespace mobula {

/// The longest head of `text` of at most `bytes_max` bytes that ends between two characters. Text that
/// is not UTF-8 is cut at `bytes_max`.
constexpr std::string_view cut_text(std::string_view text, size_t bytes_max) {
  constexpr size_t kCharacterBytesMax = 4;
  if (text.size() <= bytes_max) return text;
  const auto continues = [&](size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  size_t end = bytes_max;
  while (end > 0 && bytes_max - end < kCharacterBytesMax - 1 && continues(end)) --end;
  return text.substr(0, continues(end) ? bytes_max : end);
}

/// The longest tail of `text` of at most `bytes_max` bytes that begins with a character.
constexpr std::string_view cut_text_head(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  text.remove_prefix(text.size() - bytes_max);
  while (!text.empty() && (static_cast<unsigned char>(text[0]) & 0xC0) == 0x80)
    text.remove_prefix(1);
  return text;
}

/// `text` with U+FFFD for every byte that is no part of a character (RFC 3629, section 3).
std::string valid_utf8(std::string_view text);

}  // namespace mobula
