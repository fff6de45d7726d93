#include "base/text.h"

namespace mobula {

std::string valid_utf8(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t size = first < 0x80   ? 1
                        : first < 0xC2 ? 0
                        : first < 0xE0 ? 2
                        : first < 0xF0 ? 3
                        : first < 0xF5 ? 4
                                       : 0;
    bool good = size != 0 && i + size <= text.size();
    for (size_t k = 1; good && k < size; ++k) {
      good = (static_cast<unsigned char>(text[i + k]) & 0xC0) == 0x80;
    }
    if (good && size == 3) {  // Not overlong, no surrogates.
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(first == 0xE0 && second < 0xA0) && !(first == 0xED && second >= 0xA0);
    }
    if (good && size == 4) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      good = !(first == 0xF0 && second < 0x90) && !(first == 0xF4 && second >= 0x90);
    }
    if (good) {
      clean.append(text.substr(i, size));
      i += size;
    } else {
      clean += "\xEF\xBF\xBD";
      ++i;
    }
  }
  return clean;
}

}  // namespace mobula
