"""From the bytes of a notebook to the HTML of its body; nothing in here knows of files, folders or the site."""
