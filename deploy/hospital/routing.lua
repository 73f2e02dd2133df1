-- Orthanc sends every film that it stores to the node. Results that come back are none, so nothing goes round in circles.
function OnStoredInstance(instance, tags, metadata, origin)
  if tags.Modality == 'CR' or tags.Modality == 'DX' then
    SendToModality(instance, 'pneumo')
  end
end
